"""Commands of translation: train, translate, distil."""

import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from headcount.cli import arguments as of
from headcount.cli.arguments import DATA_FLAGS, TRAINING_FLAGS, Json, Model, set_up
from headcount.cli.flags import takes
from headcount.cli.pruning import show
from headcount.cli.terminal import print_json, print_lines, say
from headcount.errors import BadRecipe
from headcount.settings.training import with_a_length

Shape = Annotated[
    str,
    Parameter(
        help="transformer-base, transformer-big, iwslt_de_en or tiny-student, with changes: "
        "tiny-student,encoder_layers=4; or the directory of a model to go on with."
    ),
]
Beam = Annotated[int, Parameter(help="Hypotheses that are kept of each sentence; 1 is greedy search.")]


DATA = DATA_FLAGS.of("translation")
TRAINING = TRAINING_FLAGS.of("translation").without("batch_size")


@takes(data=DATA, training=TRAINING)
def train_nmt(
    shape: Shape,
    /,
    *,
    output: of.Output,
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: of.Seed = 0,
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Train a translation model, and write a directory that from_pretrained loads."""
    from headcount.experiments.recipe import Recipe, training_for
    from headcount.experiments.run import run_recipe

    settings = with_a_length(training_for("translation", training))
    recipe = Recipe(new_shape(shape), "unpruned", None, data, task="translation", training=settings, seed=seed)
    set_up(threads)
    show(run_recipe(recipe, output, say), output, json_)


def translate(
    model: Model,
    /,
    *,
    beam: Beam = 5,
    normalisation: Annotated[
        float, Parameter(help="A hypothesis' log probability is divided by its length to this power.")
    ] = 1.0,
    shortlist: Annotated[Path | None, Parameter(help="The file that headcount shortlist wrote.")] = None,
    batch_tokens: Annotated[int, Parameter(help="Source pieces in a batch, padding included.")] = 2048,
    max_length: Annotated[int, Parameter(help="The longest source, in pieces.")] = 256,
    long: Annotated[str, Parameter(help="What becomes of a longer line: split or truncate.")] = "split",
    int8: Annotated[
        bool,
        Parameter(
            "--int8",
            help="Compute in eight bits: faster, with nearly the same output. The output depends on the batch.",
        ),
    ] = False,
    device: Annotated[
        str | None,
        Parameter(help="cpu, cuda and so on. Default: the accelerator if there is one; with --int8, cpu."),
    ] = None,
    threads: of.Threads = None,
) -> None:
    """Translate standard input to standard output, line for line."""
    # Long: its parameters are the flags.
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


@takes(data=DATA.without("beam"), training=TRAINING)
def distill(
    teacher: Model,
    /,
    *,
    output: of.Output,
    student: Annotated[str, Parameter(help="The student's shape, as for train-nmt.")] = "tiny-student",
    beam: Annotated[int | None, Parameter(help="Of the teacher. Default: 5, or --best if that is more.")] = None,
    best: Annotated[
        int, Parameter(help="Of so many translations, take the one with the best sentence BLEU; 1: the likeliest.")
    ] = 1,
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: of.Seed = 0,
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Train a small student on what a teacher makes of the training data's source side."""
    from headcount.experiments.distillation import Distillation, distil
    from headcount.experiments.recipe import training_for
    from headcount.nmt import Search

    set_up(threads)
    search = Search(max(5, best) if beam is None else beam, best=best)
    plan = Distillation(teacher, new_shape(student), data, search, training_for("translation", training), seed)
    show(distil(plan, output, say), output, json_)


@takes(
    data=replace(DATA, rest="").without(
        "validation", "development", "codes", "vocabulary", "coverage", "beam", "bleu_tokenize", "validation_limit"
    )
)
def shortlist(
    model: Model,
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"], help="File to write.")],
    best: Annotated[int, Parameter(help="Likely target pieces of every source piece.")] = 50,
    frequent: Annotated[int, Parameter(help="Frequent target pieces, for every sentence.")] = 50,
    data: Mapping[str, Any],
    seed: of.Seed = 0,
    json_: Json = False,
) -> None:
    """Learn from training data which target pieces a source piece may become; translate --shortlist is faster."""
    from headcount.experiments.distillation import learn_shortlist

    if output.is_dir():
        raise BadRecipe(f"Output '{output}' is a directory. Name a file to write.")
    learned = learn_shortlist(model, **data, best=best, frequent=frequent, seed=seed)
    learned.save(output)
    if json_:
        return print_json({"output": str(output), "bytes": output.stat().st_size})
    print_lines(f"Wrote {output} ({output.stat().st_size:,} bytes).")


def new_shape(shape: str) -> str:
    """A directory as it is; a shape as a new model of it, also where a directory has its name (that is `./NAME`)."""
    from headcount.nmt import PRESETS

    there = shape.partition(",")[0] not in PRESETS and Path(shape).is_dir()
    return shape if there or shape.startswith("new:") else f"new:{shape}"
