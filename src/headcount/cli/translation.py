"""Commands of translation: train, translate, distil."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from headcount.cli import arguments as of
from headcount.cli.arguments import Json, Model, set_up
from headcount.cli.pruning import show
from headcount.cli.terminal import print_json, print_lines, say
from headcount.errors import BadRecipe
from headcount.settings.training import with_a_length

Shape = Annotated[
    str,
    typer.Argument(
        help="transformer-base, transformer-big, iwslt_de_en or tiny-student, with changes: "
        "tiny-student,encoder_layers=4; or the directory of a model to go on with."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory to write; new or empty.")]
Beam = Annotated[int, typer.Option(help="Hypotheses that are kept of each sentence; 1 is greedy search.")]


def train_nmt(
    shape: Shape,
    output: Output,
    train: of.Train,
    validation: of.Validation,
    development: of.Development = None,
    text: of.Text = None,
    languages: of.Languages = None,
    vocabulary: of.Vocabulary = None,
    max_length: of.MaxLength = None,
    train_limit: of.TrainLimit = None,
    others: of.Data = None,
    epochs: of.Epochs = None,
    steps: of.Steps = None,
    batch_tokens: of.BatchTokens = None,
    gradient_accumulation: of.Accumulation = None,
    lr: of.Rate = None,
    warmup: of.Warmup = None,
    precision: of.Precision = None,
    checkpoint_every: of.Every = None,
    training: of.Training = None,
    seed: of.Seed = 0,
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Train a translation model, and write a directory that from_pretrained loads."""
    from headcount.experiments.recipe import Recipe
    from headcount.experiments.run import run_recipe

    recipe = Recipe(
        model=_new(shape),
        method="unpruned",
        keep=None,
        task="translation",
        data=_data(train, validation, development, text, languages, vocabulary, max_length, train_limit, others),
        training=with_a_length(
            of.training_of(
                "translation", warmup, training,
                epochs=epochs, steps=steps, batch_tokens=batch_tokens, gradient_accumulation=gradient_accumulation,
                lr=lr, precision=precision, checkpoint_every=checkpoint_every,
            )
        ),
        seed=seed,
    )  # fmt: skip
    set_up(threads)
    show(run_recipe(recipe, output, say), output, json_)


def translate(
    model: Model,
    beam: Beam = 5,
    normalisation: Annotated[
        float, typer.Option(help="A hypothesis' log probability is divided by its length to this power.")
    ] = 1.0,
    shortlist: Annotated[Path | None, typer.Option(help="The file that headcount shortlist wrote.")] = None,
    batch_tokens: Annotated[int, typer.Option(help="Source pieces in a batch, padding included.")] = 2048,
    max_length: Annotated[int, typer.Option(help="The longest source, in pieces.")] = 256,
    long: Annotated[str, typer.Option(help="What becomes of a longer line: split or truncate.")] = "split",
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Eight-bit products: faster, nearly the same; what else is in a batch has a say."),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda and so on. Default: the accelerator if there is one; with --int8, cpu."),
    ] = None,
    threads: of.Threads = None,
) -> None:
    """Translate standard input to standard output, line for line."""
    from headcount.nmt import LineTranslator, Search, Shortlist, to_int8
    from headcount.running.device import device_named
    from headcount.tasks.translation_models import load_translator

    if sys.stdin is None or sys.stdout is None:
        raise BadRecipe("Standard input or standard output is closed. Lines come from the one and go to the other.")
    search, likely = Search(beam, normalisation), None if shortlist is None else Shortlist.load(shortlist)
    where = device_named("cpu" if int8 and device is None else device)
    if int8 and where.type != "cpu":
        raise BadRecipe(f"Eight-bit products are for the CPU, got --device {device}. Leave out one of them.")
    set_up(threads)
    if hasattr(signal, "SIGPIPE"):  # whoever reads may stop when they have seen enough
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    loaded, tokenizer = load_translator(model)
    translator = LineTranslator(
        to_int8(loaded) if int8 else loaded.to(where), tokenizer, search, likely,
        batch_tokens=batch_tokens, max_length=max_length, long=long,
    )  # fmt: skip
    broken = 0

    def lines() -> Iterator[str]:
        nonlocal broken
        for raw in sys.stdin.buffer:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError:
                line = raw.decode("utf-8", errors="replace")
                broken += 1
            yield line.rstrip("\r\n")

    for translation in translator.translate(lines()):
        sys.stdout.buffer.write(translation.encode("utf-8") + b"\n")
        sys.stdout.buffer.flush()
    counts = translator.counts | {"not UTF-8, replaced": broken}
    say(", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "lines"))


def distill(
    teacher: Model,
    output: Output,
    train: of.Train,
    validation: of.Validation,
    student: Annotated[str, typer.Option(help="The student's shape, as for train-nmt.")] = "tiny-student",
    beam: Annotated[int | None, typer.Option(help="Of the teacher. Default: 5, or --best if that is more.")] = None,
    best: Annotated[
        int, typer.Option(help="Of so many translations, take the one with the best sentence BLEU; 1: the likeliest.")
    ] = 1,
    development: of.Development = None,
    text: of.Text = None,
    languages: of.Languages = None,
    vocabulary: of.Vocabulary = None,
    train_limit: of.TrainLimit = None,
    others: of.Data = None,
    epochs: of.Epochs = None,
    steps: of.Steps = None,
    batch_tokens: of.BatchTokens = None,
    max_length: of.MaxLength = None,
    gradient_accumulation: of.Accumulation = None,
    lr: of.Rate = None,
    warmup: of.Warmup = None,
    precision: of.Precision = None,
    checkpoint_every: of.Every = None,
    training: of.Training = None,
    seed: of.Seed = 0,
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Train a small student on what a teacher makes of the training data's source side."""
    from headcount.experiments.distillation import Distillation, distil
    from headcount.nmt import Search

    set_up(threads)
    record = distil(
        Distillation(
            teacher=teacher,
            student=_new(student),
            data=_data(train, validation, development, text, languages, vocabulary, max_length, train_limit, others),
            search=Search(max(5, best) if beam is None else beam, best=best),
            training=of.training_of(
                "translation", warmup, training,
                epochs=epochs, steps=steps, batch_tokens=batch_tokens, gradient_accumulation=gradient_accumulation,
                lr=lr, precision=precision, checkpoint_every=checkpoint_every,
            ),
            seed=seed,
        ),
        output,
        say,
    )  # fmt: skip
    show(record, output, json_)


def shortlist(
    model: Model,
    train: of.Train,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    best: Annotated[int, typer.Option(help="Likely target pieces of every source piece.")] = 50,
    frequent: Annotated[int, typer.Option(help="Frequent target pieces, for every sentence.")] = 50,
    text: of.Text = None,
    languages: of.Languages = None,
    max_length: of.MaxLength = None,
    train_limit: of.TrainLimit = None,
    seed: of.Seed = 0,
    json_: Json = False,
) -> None:
    """Learn from training data which target pieces a source piece may become; translate --shortlist is faster."""
    from headcount.experiments.distillation import learn_shortlist

    if output.is_dir():
        raise BadRecipe(f"Output '{output}' is a directory. Name a file to write.")
    learned = learn_shortlist(
        model,
        train,
        of.pair(languages),
        of.pair(text),
        best,
        frequent,
        128 if max_length is None else max_length,
        train_limit,
        seed,
    )
    learned.save(output)
    if json_:
        return print_json({"output": str(output), "bytes": output.stat().st_size})
    print_lines(f"Wrote {output} ({output.stat().st_size:,} bytes).")


def _data(
    train: str,
    validation: str,
    development: str | None,
    text: str | None,
    languages: str | None,
    vocabulary: str | None,
    max_length: int | None,
    train_limit: int | None,
    others: list[str] | None,
) -> dict[str, Any]:
    """The fields of the task that were given."""
    return (
        {"train": train, "validation": validation}
        | of.given(
            development=of.number_or_name(development),
            columns=of.pair(text),
            languages=of.pair(languages),
            vocabulary=of.number_or_name(vocabulary),
            max_length=max_length,
            train_limit=train_limit,
        )
        | of.settings_of("--data", others)
    )


def _new(shape: str) -> str:
    """A directory as it is; a shape as a new model of it, also where a directory has its name (that is `./NAME`)."""
    from headcount.nmt import PRESETS

    there = shape.partition(",")[0] not in PRESETS and Path(shape).is_dir()
    return shape if there or shape.startswith("new:") else f"new:{shape}"
