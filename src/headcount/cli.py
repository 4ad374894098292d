"""The command line: parse, call, print. `--json` prints plain data; errors of ours are one line and exit code 1."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headcount.errors import BadRecipe, PruningError
from headcount.methods import METHODS
from headcount.methods.choice import AUTO
from headcount.printing import print_json, print_lines, print_table, say

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
        return print_json({"heads": len(here.head_map), "kept": len(here), "text": str(here), "sites": sites})
    drawn = [{**site, "kept": len(site["kept"]), "of": site["heads"], "heads": _drawn(site)} for site in sites]
    columns = ("site", "kind", "kept", "of", "size", "heads")
    print_table(
        [{name: site[name] for name in columns} for site in drawn],
        f"{model}: {len(here)} of {len(here.head_map)} heads",
    )
    print_lines(f"per layer: {here}")


@app.command()
def prune(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; new or empty.")],
    train: Annotated[
        str, typer.Option(help="Training data: TSV, CSV, JSON lines (also .gz), or hub:name:config:split.")
    ],
    validation: Annotated[str, typer.Option(help="Data to measure on.")],
    keep: Annotated[str | None, typer.Option(help="Heads to keep: a number (12) or a share (0.25, 25%).")] = None,
    method: Annotated[
        str, typer.Option(help=f"One of: {', '.join(METHODS)}; auto goes by the length of the training.")
    ] = AUTO,
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
    development: Annotated[
        int | None,
        typer.Option(help="Training examples held out to score heads on. Default: a twentieth, at most 500."),
    ] = None,
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
    from headcount.settings import TrainingSettings

    recipe = Recipe(
        model=model,
        method=method,
        keep=None if keep is None else _budget(keep, sites),
        sites=sites,
        unit=unit,
        options=_options(option or []),
        data=_data(train, validation, text, label, labels, max_length, skip_unlabelled)
        | {"train_limit": train_limit, "development": development, "validation_limit": validation_limit},
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
    record = run_recipe(recipe, output, say)
    if json_:
        return print_json(record.to_json())
    after, before = record.size["after"], record.size["before"]
    print_table(
        [
            {
                "method": record.recipe["method"],
                "heads per layer": record.heads,
                **{name: f"{value:.4f}" for name, value in record.metrics.items()},
                "parameters": f"{after['parameters']:,}",
                "of before": f"{after['parameters'] / before['parameters']:.1%}",
            }
        ]
    )
    loading = f"Wrote {output}. Load it: import headcount, then AutoModel….from_pretrained('{output}')."
    print_lines(record.signature, loading)


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
        return print_json({"model": model, "metrics": metrics})
    print_table([{"model": model} | {name: f"{value:.4f}" for name, value in metrics.items()}])


@app.command()
def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models and exports; the others are compared with the first.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Instead: a model of which only the configuration is taken, with random weights.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="With --shape: a budget (12, 25%), or heads per site ('5 1 3 1 5 6'). Default: 50% and 25%."),
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
            shape, keep or ["50%", "25%"], runtimes=runtime or (), sites=sites, threads=threads, say=say, **conditions
        )
    else:
        sources = models or []
        opened = {name: open_model(source, threads) for name, source in zip(distinct(sources), sources, strict=True)}
        comparisons = [compare(opened, threads=threads, **conditions)]
    if json_:
        data = [comparison.to_json() for comparison in comparisons]
        return print_json(data[0] if shape is None else data)
    for comparison in comparisons:
        print_table([_timing(each) for each in comparison.timings])
        print_lines(comparison.signature)


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
        return print_json(exported.to_json())
    print_table([{"file": name, "MB": f"{size / 1e6:.2f}"} for name, size in exported.files.items()])
    print_lines(
        f"{exported.format}: takes {', '.join(exported.inputs)}; gives {', '.join(exported.outputs)}",
        f"difference from PyTorch: {exported.difference:.1e} of the largest output, over {exported.checked}",
        *exported.notes,
    )


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where models go.")] = Path("demo-output"),
    keep: Annotated[int, typer.Option(help="Heads to keep, of the encoder's 72.")] = 12,
    json_: Json = False,
) -> None:
    """Prune a small pretrained encoder by two methods, offline, in three minutes."""
    from headcount.demo import LOADING, show_demo

    _set_up(None, True)
    rows = show_demo(output, keep, say)
    if json_:
        return print_json(rows)
    print_table(rows)
    print_lines(LOADING.format(directory=output / "gradual"))


def _drawn(site: dict[str, Any]) -> str:
    """A site's heads as marks; those that share a key/value head stand together."""
    marks = ["■" if head in site["kept"] else "·" for head in range(site["heads"])]
    group = site["heads"] // site["kv_heads"]
    return " ".join("".join(marks[start : start + group]) for start in range(0, len(marks), group))


def _timing(timing: Any) -> dict[str, str]:
    def known(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return {
        "model": timing.name,
        "runtime": timing.runtime,
        "ms": f"{timing.milliseconds:.1f}",
        "speed-up": f"{timing.speedup:.3f}",
        "quartiles": f"{timing.speedup_low:.3f}–{timing.speedup_high:.3f}",
        "FLOPs predict": known(timing.predicted_speedup, ".3f"),
        "reached": known(timing.share_of_prediction, ".1%"),
        "parameters": known(timing.size.parameters, ","),
        "MB": f"{timing.size.bytes / 1e6:.1f}",
    }


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
        say(f"matrix products: {mode.why}")


def _wrote(output: Path, subset: Any, more: dict[str, Any], json_: bool) -> None:
    if json_:
        data = {"output": str(output), "heads": len(subset.head_map), "kept": len(subset), "text": str(subset), **more}
        return print_json(data)
    sizes = "".join(f" ({value:,} {name})" for name, value in more.items())
    print_lines(f"Wrote {output}{sizes}: {len(subset)} of {len(subset.head_map)} heads; per layer: {subset}.")
