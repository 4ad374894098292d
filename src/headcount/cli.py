"""The command line: parse, call, print. `--json` prints plain data; errors of ours are one line and exit code 1."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headcount.errors import BadRecipe, PruningError
from headcount.methods import METHODS

app = typer.Typer(
    help="Remove attention heads from Transformers: name a budget, pick a method, get a smaller, faster model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Model = Annotated[str, typer.Argument(help="A model directory, or a name on the Hub.")]
Json = Annotated[bool, typer.Option("--json", help="Print plain data instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads. Default: torch's own choice.")]
Fast = Annotated[bool, typer.Option(help="Faster float32 products on the CPU where they stay float32.")]
Text = Annotated[str | None, typer.Option(help="Text column, or two for pairs: premise,hypothesis. Default: guessed.")]
Label = Annotated[str | None, typer.Option(help="Label column. Default: guessed.")]
Labels = Annotated[str | None, typer.Option(help="The data's labels in the order of the model's classes: a,b,c.")]
Skip = Annotated[bool, typer.Option("--skip-unlabelled", help="Leave out rows without a label.")]
MaxLength = Annotated[int, typer.Option(help="Tokens an example is cut to.")]


def main() -> None:
    """Run the command line. Exit codes: 0; 1 for errors of ours, in one line; 2 for wrong usage."""
    try:
        app()
    except PruningError as error:
        print(f"headcount: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"headcount: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def heads(model: Model, json_: Json = False) -> None:
    """Show a model's map of heads: where they are, and which are left. Reads the configuration only."""
    from headcount.anatomy import present
    from headcount.checkpoint import skeleton

    here = present(skeleton(model))
    sites: list[dict[str, Any]] = [
        {"site": s.name, "kind": s.kind, "heads": s.heads, "kv_heads": s.kv_heads, "size": s.head_size,
         "kept": here.at(s.name)}
        for s in here.head_map.sites
    ]  # fmt: skip
    if json_:
        return _print_json({"heads": len(here.head_map), "kept": len(here), "text": str(here), "sites": sites})
    table = Table(
        "site",
        "kind",
        "kept",
        "of",
        "size",
        "heads",
        title=f"{model}: {len(here)} of {len(here.head_map)} heads",
    )
    for site in sites:
        marks = ["■" if head in site["kept"] else "·" for head in range(site["heads"])]
        group = site["heads"] // site["kv_heads"]  # heads that share a key/value head stand together
        groups = ("".join(marks[start : start + group]) for start in range(0, len(marks), group))
        table.add_row(
            site["site"],
            site["kind"],
            *(str(n) for n in (len(site["kept"]), site["heads"], site["size"])),
            " ".join(groups),
        )
    _console().print(table)
    _console().print(f"per layer: {here}")


@app.command()
def prune(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; new or empty.")],
    train: Annotated[
        str, typer.Option(help="Training data: TSV, CSV, JSON lines (also .gz), or hub:name:config:split.")
    ],
    validation: Annotated[str, typer.Option(help="Data to measure on.")],
    keep: Annotated[str | None, typer.Option(help="Heads to keep: a number (12) or a share (0.25, 25%).")] = None,
    method: Annotated[str, typer.Option(help=f"One of: {', '.join(METHODS)}.")] = "dsp-joint",
    option: Annotated[
        list[str] | None, typer.Option("--set", help="A hyper-parameter of the method: name=value.")
    ] = None,
    sites: Annotated[str | None, typer.Option(help="Budget over one kind: encoder, decoder or cross.")] = None,
    unit: Annotated[
        str,
        typer.Option(help="Grouped-query attention loses whole groups, or a query head of each: group, query."),
    ] = "group",
    text: Text = None,
    label: Label = None,
    labels: Labels = None,
    max_length: MaxLength = 128,
    skip_unlabelled: Skip = False,
    train_limit: Annotated[int | None, typer.Option(help="Learn from this many examples, drawn by the seed.")] = None,
    validation_limit: Annotated[int | None, typer.Option(help="Measure on the first n examples.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Default: 3; none for a trained model and a pipelined method.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples per step and device.")] = 32,
    gradient_accumulation: Annotated[int, typer.Option(help="Batches per optimiser step.")] = 1,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the weights.")] = 2e-5,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which the learning rate rises.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="On the weights.")] = 0.0,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16 (mixed).")] = "float32",
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: none.")] = 500,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    threads: Threads = None,
    fast_matmul: Fast = True,
    json_: Json = False,
) -> None:
    """Train and prune a classifier to exactly K heads, and write a directory that from_pretrained loads."""
    from headcount.recipe import Recipe
    from headcount.run import run_recipe
    from headcount.training import TrainingSettings

    recipe = Recipe(
        model=model,
        method=method,
        keep=None if keep is None else _budget(keep, sites),
        sites=sites,
        unit=unit,
        options=_options(option or []),
        data=_data(train, validation, text, label, labels, max_length, skip_unlabelled)
        | {"train_limit": train_limit, "validation_limit": validation_limit},
        training=TrainingSettings(
            epochs=epochs,
            batch_size=batch_size,
            gradient_accumulation=gradient_accumulation,
            lr=lr,
            warmup=warmup,
            weight_decay=weight_decay,
            precision=precision,
            checkpoint_every=checkpoint_every,
        ),
        seed=seed,
    )
    _set_up(threads, fast_matmul)
    record = run_recipe(recipe, output, _say)
    if json_:
        return _print_json(record.to_json())
    after, before = record.size["after"], record.size["before"]
    table = Table("method", "heads per layer", *record.metrics, "parameters", "of before")
    shown = [f"{value:.4f}" for value in record.metrics.values()]
    table.add_row(
        method,
        record.heads,
        *shown,
        f"{after['parameters']:,}",
        f"{after['parameters'] / before['parameters']:.1%}",
    )
    _console().print(table)
    _console().print(record.signature, soft_wrap=True)
    _console().print(
        f"Wrote {output}. Load it: import headcount, then AutoModel….from_pretrained('{output}').",
        soft_wrap=True,
    )


@app.command()
def evaluate(
    model: Model,
    validation: Annotated[str, typer.Option(help="Data to measure on.")],
    text: Text = None,
    label: Label = None,
    labels: Labels = None,
    max_length: MaxLength = 128,
    skip_unlabelled: Skip = False,
    threads: Threads = None,
    fast_matmul: Fast = True,
    json_: Json = False,
) -> None:
    """Measure a trained classifier, pruned or not."""
    from headcount.run import evaluate as evaluate_model
    from headcount.tasks import TASKS

    _set_up(threads, fast_matmul)
    task = TASKS["classification"](**_data(validation, validation, text, label, labels, max_length, skip_unlabelled))
    metrics = evaluate_model(model, task)
    if json_:
        return _print_json({"model": model, "metrics": metrics})
    table = Table("model", *metrics)
    table.add_row(model, *(f"{value:.4f}" for value in metrics.values()))
    _console().print(table)


@app.command()
def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models and exports; the others are compared with the first.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Instead: a model of which only the configuration is taken, with random weights.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="With --shape: a budget (12, 25%), or heads per site ('5 1 3 1 5 6'). Default: 50% and 25%.")
    ] = None,
    sites: Annotated[str | None, typer.Option(help="With --shape: budgets over one kind of site.")] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="With --shape: pytorch, onnxruntime, openvino, ctranslate2. Default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences in the batch.")] = 8,
    length: Annotated[int, typer.Option(help="Tokens in each sequence.")] = 128,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rounds that count; each runs every model once.")] = 20,
    warmup: Annotated[int, typer.Option(help="Rounds before those.")] = 3,
    fast_matmul: Fast = True,
    json_: Json = False,
) -> None:
    """Time models next to each other: paired, interleaved; speed-ups are medians of ratios within a round."""
    from headcount.measure import compare, distinct
    from headcount.runtimes import open_model
    from headcount.shape import compare_shapes

    if (shape is None) == (not models):
        raise typer.BadParameter("Give the models to compare, or one configuration: --shape MODEL --keep 12 --keep 36.")
    if shape is None and (keep or runtime or sites):
        raise typer.BadParameter("--keep, --sites and --runtime go with --shape; models have the heads they have.")
    _set_up(threads, fast_matmul)
    conditions = {"batch_size": batch_size, "length": length, "rounds": rounds, "warmup": warmup}
    if shape is not None:
        comparisons = compare_shapes(
            shape, keep or ["50%", "25%"], runtimes=runtime or (), sites=sites, threads=threads, say=_say, **conditions
        )
    else:
        sources = models or []
        opened = {name: open_model(source, threads) for name, source in zip(distinct(sources), sources, strict=True)}
        comparisons = [compare(opened, threads=threads, **conditions)]
    if json_:
        data = [comparison.to_json() for comparison in comparisons]
        return _print_json(data[0] if shape is None else data)
    for comparison in comparisons:
        _console().print(_timings(comparison))
        _console().print(comparison.signature, soft_wrap=True)


def _timings(comparison: Any) -> Table:
    table = Table()
    for name in ("model", "runtime", "ms", "speed-up", "quartiles", "FLOPs predict", "reached", "parameters", "MB"):
        table.add_column(name, overflow="fold")  # in a narrow terminal a number is broken, never cut off
    for t in comparison.timings:
        table.add_row(
            t.name,
            t.runtime,
            f"{t.milliseconds:.1f}",
            f"{t.speedup:.3f}",
            f"{t.speedup_low:.3f}–{t.speedup_high:.3f}",
            _known(t.predicted_speedup, ".3f"),
            _known(t.share_of_prediction, ".1%"),
            _known(t.size.parameters, ","),
            f"{t.size.bytes / 1e6:.1f}",
        )
    return table


@app.command()
def plan(
    pruned: Annotated[str, typer.Argument(help="Directory of a pruned model whose weights did not change.")],
    base: Annotated[str, typer.Option(help="The model its heads were removed from: a directory, or a Hub name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("plan.json"),
    json_: Json = False,
) -> None:
    """Write a pruned model's heads as a plan that cuts its base at load; refused if its weights were trained."""
    from headcount.plan import extract_plan

    _set_up(None, None)
    if output.exists():
        raise BadRecipe(f"'{output}' is there already. Name another file, or remove it.")
    extracted = extract_plan(pruned, base)
    extracted.save(output)
    _wrote(output, extracted.subset, {"bytes": output.stat().st_size}, json_)


@app.command()
def apply(
    base: Model,
    plan: Annotated[Path, typer.Argument(help="The plan that headcount plan wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; new or empty.")],
    json_: Json = False,
) -> None:
    """Cut a base model by a plan, and write an ordinary pruned directory."""
    from headcount.plan import apply_plan

    _set_up(None, None)
    _wrote(output, apply_plan(base, plan, output), {}, json_)


@app.command()
def export(
    model: Model,
    to: Annotated[str, typer.Option("--to", help="onnx, openvino or ctranslate2.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; new or empty.")],
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Write a model in another runtime's format, and check that it computes the same there."""
    from headcount.export import export_model

    _set_up(threads, None)
    exported = export_model(model, output, to)
    if json_:
        return _print_json(exported.to_json())
    table = Table("file", "MB")
    for name, size in exported.files.items():
        table.add_row(name, f"{size / 1e6:.2f}")
    _console().print(table)
    for line in (f"{exported.format}: takes {', '.join(exported.inputs)}; gives {', '.join(exported.outputs)}",
                 f"difference from PyTorch: {exported.difference:.1e} of the largest output, over {exported.checked}",
                 *exported.notes):  # fmt: skip
        _console().print(line, highlight=False, soft_wrap=True)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where models go.")] = Path("demo-output"),
    keep: Annotated[int, typer.Option(help="Heads to keep, of the encoder's 72.")] = 12,
    json_: Json = False,
) -> None:
    """Prune a small pretrained encoder by two methods, offline, in three minutes."""
    from headcount.demo import LOADING, show_demo

    _set_up(None, True)
    rows = show_demo(output, keep, _say)
    if json_:
        return _print_json(rows)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _console().print(table)
    _console().print(LOADING.format(directory=output / "dsp-joint"), highlight=False, soft_wrap=True)


def _budget(keep: str, sites: str | None) -> int | float:
    from headcount.budget import Budget

    return Budget.parse(keep, sites).keep


def _options(settings: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise BadRecipe(f"Cannot read --set '{setting}'. Write name=value, as in --set examples=2048.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _data(
    train: str, validation: str, text: str | None, label: str | None, labels: str | None, max_length: int, skip: bool
) -> dict[str, Any]:
    def split(names: str | None) -> tuple[str, ...] | None:
        return None if names is None else tuple(name.strip() for name in names.split(","))

    return {
        "train": train,
        "validation": validation,
        "text": split(text),
        "label": label,
        "labels": split(labels),
        "max_length": max_length,
        "skip_unlabelled": skip,
    }


def _set_up(threads: int | None, fast: bool | None) -> None:
    """Quiet libraries, threads, and fast products if speed matters; what is switched on is said."""
    import torch
    import transformers

    from headcount.measure import fast_matmul

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("headcount").setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if threads is not None:
        if threads < 1:
            raise BadRecipe(f"Got threads {threads}. Give a whole number from 1 up.")
        torch.set_num_threads(threads)
    if fast is not None:
        mode = fast_matmul(fast, "cuda" if torch.cuda.is_available() else "cpu")
        _say(f"matrix products: {mode.why}")


def _wrote(output: Path, subset: Any, more: dict[str, Any], json_: bool) -> None:
    if json_:
        data = {"output": str(output), "heads": len(subset.head_map), "kept": len(subset), "text": str(subset), **more}
        return _print_json(data)
    sizes = "".join(f" ({value:,} {name})" for name, value in more.items())
    _console().print(
        f"Wrote {output}{sizes}: {len(subset)} of {len(subset.head_map)} heads; per layer: {subset}.",
        highlight=False,
        soft_wrap=True,
    )


def _say(line: str) -> None:
    Console(stderr=True).print(line, style="dim", highlight=False, soft_wrap=True)


def _known(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _console() -> Console:
    # Piped, a table is as wide as it needs to be: a cut-off line is of no use to a script or a log.
    # Paths, labels and signatures are shown as they are: ":train:" is no picture of a train, "[a]" no style.
    return Console(width=None if sys.stdout.isatty() else 200, emoji=False, markup=False)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, default=str))
