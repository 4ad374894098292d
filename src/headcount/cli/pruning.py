"""Commands about heads: where they are, and taking some away."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from headcount.cli import arguments as of
from headcount.cli.arguments import DATA_FLAGS, OPTIONS, TRAINING_FLAGS, Json, Model, set_up
from headcount.cli.flags import Flags, meaning, named_values, takes
from headcount.cli.terminal import print_json, print_lines, print_table, say
from headcount.settings.recipe import RecipeSettings
from headcount.settings.schema import about, settings_of


def heads(model: Model, /, *, json_: Json = False) -> None:
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
    name: Annotated[str | None, Parameter(help="One of them: what it does, and its options for --set.")] = None,
    /,
    *,
    json_: Json = False,
) -> None:
    """List the methods that choose heads, or the options of one."""
    from headcount.methods import method_class, method_names

    if name is None:
        kinds = {each: method_class(each) for each in method_names()}
        rows = [
            {"method": each, "weights and heads": kind.paradigm, "what it does": about(kind).splitlines()[0]}
            for each, kind in kinds.items()
        ]
        return print_json(rows) if json_ else print_table(rows)
    kind: Any = method_class(name)  # mypy takes the __hash__ of its instances for its own
    own = [*kind.__annotations__]  # what it does not share with others comes first
    settings = sorted(
        settings_of(kind).values(), key=lambda each: own.index(each.field) if each.field in own else len(own)
    )
    if json_:
        options = [
            {"name": each.name, "kind": each.takes, "default": each.default, "meaning": each.meaning}
            for each in settings
        ]
        return print_json({"method": name, "paradigm": kind.paradigm, "about": about(kind), "options": options})
    print_lines(about(kind))
    print_table(
        [
            {"--set": each.name, "default": each.default, "takes": each.takes, "meaning": each.meaning}
            for each in settings
        ]
    )


@takes(
    recipe=Flags(
        OPTIONS, {"": RecipeSettings},
        leave_out=frozenset({"model", "method", "keep", "data", "task", "options", "training", "seed"}),
    ),
    data=DATA_FLAGS,
    training=TRAINING_FLAGS,
)  # fmt: skip
def prune(
    model: Annotated[str, Parameter(help=meaning(RecipeSettings, "model"))],
    /,
    *,
    output: of.Output,
    task: of.Task = "classification",
    keep: Annotated[str | None, Parameter(help=f"{meaning(RecipeSettings, 'keep')} 25% is 0.25.")] = None,
    method: Annotated[str, Parameter(help=meaning(RecipeSettings, "method"))] = "auto",
    option: Annotated[
        list[str] | None,
        Parameter("--set", help="An option of the method, name=value: headcount methods NAME lists them."),
    ] = None,
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: of.Seed = 0,
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Train and prune a model to exactly K heads, and write a directory that from_pretrained loads."""
    from headcount.experiments.recipe import Recipe, training_for
    from headcount.experiments.run import run_recipe
    from headcount.units.budget import Budget

    wanted = Recipe(
        model=model,
        method=method,
        keep=None if keep is None else Budget.parse(keep, recipe.get("sites")).keep,
        data=data,
        task=task,
        options=named_values("--set", option),
        training=training_for(task, training),
        seed=seed,
        **recipe,
    )
    set_up(threads)
    show(run_recipe(wanted, output, say), output, json_)


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


@takes(data=DATA_FLAGS.without("train", "development", "train_limit", "vocabulary", "coverage"))
def evaluate(
    model: Model,
    /,
    *,
    task: of.Task = "classification",
    data: Mapping[str, Any],
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Measure a trained model, pruned or not."""
    from headcount.experiments.recipe import make_task
    from headcount.experiments.run import evaluate as evaluate_model

    set_up(threads)
    wanted = make_task(task, {"train": data["validation"], **data})
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
