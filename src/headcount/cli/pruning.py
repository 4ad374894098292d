"""Commands about heads: where they are, and taking some away."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from headcount.cli import arguments as of
from headcount.cli.arguments import Json, Model, set_up
from headcount.cli.terminal import print_json, print_lines, print_table, say


def heads(model: Model, json_: Json = False) -> None:
    """Show a model's map of heads: where they are, and which are left. Reads the configuration only."""
    from headcount.anatomy import present
    from headcount.directory.model_files import skeleton

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


def methods(
    name: Annotated[str | None, typer.Argument(help="One of them: what it does, and its options for --set.")] = None,
    json_: Json = False,
) -> None:
    """List the methods that choose heads, or the options of one."""
    from headcount.methods import method_class, method_names
    from headcount.methods.options import about, options_of

    if name is None:
        kinds = {each: method_class(each) for each in method_names()}
        rows = [
            {"method": each, "weights and heads": kind.paradigm, "what it does": about(kind).splitlines()[0]}
            for each, kind in kinds.items()
        ]
        return print_json(rows) if json_ else print_table(rows)
    kind, options = method_class(name), options_of(method_class(name))
    if json_:
        return print_json(
            {
                "method": name,
                "paradigm": kind.paradigm,
                "about": about(kind),
                "options": [asdict(each) for each in options],
            }
        )
    print_lines(about(kind))
    print_table(
        [{"--set": each.name, "default": each.default, "takes": each.kind, "meaning": each.meaning} for each in options]
    )


def prune(
    model: Annotated[
        str,
        typer.Argument(
            help="A model directory, or a name on the Hub; or a new translation model: new:tiny-student, "
            "new:transformer-base,d_model=256."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write; new or empty.")],
    train: of.Train,
    validation: of.Validation,
    task: of.Task = "classification",
    keep: Annotated[str | None, typer.Option(help="Heads to keep: a number (12) or a share (0.25, 25%).")] = None,
    method: Annotated[
        str,
        typer.Option(help="How heads are chosen: headcount methods lists them; auto goes by the length of training."),
    ] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the method, name=value: headcount methods NAME lists them."),
    ] = None,
    sites: Annotated[str | None, typer.Option(help="Budget over one kind: encoder, decoder or cross.")] = None,
    unit: Annotated[
        str,
        typer.Option(help="Grouped-query attention loses whole groups, or a query head of each: group, query."),
    ] = "group",
    development: of.Development = None,
    text: of.Text = None,
    label: of.Label = None,
    labels: of.Labels = None,
    languages: of.Languages = None,
    vocabulary: of.Vocabulary = None,
    max_length: of.MaxLength = None,
    skip_unlabelled: of.Skip = False,
    train_limit: of.TrainLimit = None,
    validation_limit: of.ValidationLimit = None,
    others: of.Data = None,
    epochs: of.Epochs = None,
    steps: of.Steps = None,
    batch_size: of.BatchSize = None,
    batch_tokens: of.BatchTokens = None,
    gradient_accumulation: of.Accumulation = None,
    lr: of.Rate = None,
    warmup: of.Warmup = None,
    weight_decay: of.Decay = None,
    precision: of.Precision = None,
    checkpoint_every: of.Every = None,
    training: of.Training = None,
    seed: of.Seed = 0,
    threads: of.Threads = None,
    fast_matmul: of.Fast = True,
    json_: Json = False,
) -> None:
    """Train and prune a model to exactly K heads, and write a directory that from_pretrained loads."""
    from headcount.experiments.recipe import Recipe
    from headcount.experiments.run import run_recipe

    recipe = Recipe(
        model=model,
        method=method,
        keep=None if keep is None else _budget(keep, sites),
        task=task,
        sites=sites,
        unit=unit,
        options=of.settings_of("--set", option),
        data=_data(train, validation, task, text, label, labels, languages, max_length, skip_unlabelled)
        | of.given(
            development=of.number_or_name(development),
            vocabulary=of.number_or_name(vocabulary),
            train_limit=train_limit,
            validation_limit=validation_limit,
        )
        | of.settings_of("--data", others),
        training=of.training_of(
            task,
            warmup,
            training,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            gradient_accumulation=gradient_accumulation,
            lr=lr,
            weight_decay=weight_decay,
            precision=precision,
            checkpoint_every=checkpoint_every,
        ),
        seed=seed,
    )
    set_up(threads, fast_matmul)
    show(run_recipe(recipe, output, say), output, json_)


def show(record: Any, output: Path, json_: bool, loads: bool = True) -> None:
    """Print what a run gave, and how its model is loaded if it was written."""
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
    loading = f" Load it: import headcount, then AutoModel….from_pretrained('{output}')." if loads else ""
    print_lines(record.signature, f"Wrote {output}.{loading}")


def evaluate(
    model: Model,
    validation: of.Validation,
    task: of.Task = "classification",
    text: of.Text = None,
    label: of.Label = None,
    labels: of.Labels = None,
    languages: of.Languages = None,
    max_length: of.MaxLength = None,
    skip_unlabelled: of.Skip = False,
    others: of.Data = None,
    threads: of.Threads = None,
    fast_matmul: of.Fast = True,
    json_: Json = False,
) -> None:
    """Measure a trained model, pruned or not."""
    from headcount.experiments.recipe import make_task
    from headcount.experiments.run import evaluate as evaluate_model

    set_up(threads, fast_matmul)
    data = _data(validation, validation, task, text, label, labels, languages, max_length, skip_unlabelled)
    data |= of.settings_of("--data", others)
    wanted = make_task(task, data)
    metrics, signatures = evaluate_model(model, wanted), wanted.signatures()
    if json_:
        return print_json({"model": model, "metrics": metrics, "signatures": signatures})
    print_table([{"model": model} | {name: f"{value:.4f}" for name, value in metrics.items()}])
    print_lines(*(f"{name}: {signature}" for name, signature in signatures.items()))


def _drawn(site: dict[str, Any]) -> str:
    """A site's heads as marks; those that share a key/value head stand together."""
    marks = ["■" if head in site["kept"] else "·" for head in range(site["heads"])]
    group = site["heads"] // site["kv_heads"]
    return " ".join("".join(marks[start : start + group]) for start in range(0, len(marks), group))


def _budget(keep: str, sites: str | None) -> int | float:
    from headcount.units.budget import Budget

    return Budget.parse(keep, sites).keep


def _data(
    train: str,
    validation: str,
    task: str,
    text: str | None,
    label: str | None,
    labels: str | None,
    languages: str | None,
    max_length: int | None,
    skip: bool,
) -> dict[str, Any]:
    columns = {"columns": of.pair(text)} if task == "translation" else {"text": of.names(text)}
    return {"train": train, "validation": validation} | of.given(
        **columns,
        label=label,
        labels=of.names(labels),
        languages=of.pair(languages),
        max_length=max_length,
        skip_unlabelled=skip,
    )
