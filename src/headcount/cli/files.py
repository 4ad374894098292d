"""Commands that turn one directory or file into another; and the demonstration."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from headcount.cli.arguments import Json, Model, Output, Threads, set_up
from headcount.cli.terminal import print_json, print_lines, print_table, say
from headcount.errors import BadRecipe


def plan(
    pruned: Annotated[str, Parameter(help="Directory of a pruned model whose weights did not change.")],
    /,
    *,
    base: Annotated[str, Parameter(help="The model its heads were removed from: a directory, or a Hub name.")],
    output: Annotated[Path, Parameter(["--output", "-o"], help="File to write.")] = Path("plan.json"),
    json_: Json = False,
) -> None:
    """Write a pruned model's heads as a plan that cuts its base at load; refused if its weights were trained."""
    from headcount.directory.plan import extract_plan

    set_up(None)
    if output.exists():
        raise BadRecipe(f"'{output}' is there already. Name another file, or remove it.")
    extracted = extract_plan(pruned, base)
    extracted.save(output)
    _wrote(output, extracted.subset, {"bytes": output.stat().st_size}, json_)


def apply(
    base: Model,
    plan: Annotated[Path, Parameter(help="The plan that headcount plan wrote.")],
    /,
    *,
    output: Output,
    json_: Json = False,
) -> None:
    """Cut a base model by a plan, and write an ordinary pruned directory."""
    from headcount.directory.plan import apply_plan

    set_up(None)
    _wrote(output, apply_plan(base, plan, output), {}, json_)


def convert(
    old: Annotated[str, Parameter(help="A model that transformers 4 pruned: a directory, or a Hub name.")],
    new: Annotated[Path, Parameter(help="Directory to write; new or empty.")],
    /,
    *,
    json_: Json = False,
) -> None:
    """Turn a directory with transformers 4's pruned_heads into one that headcount and transformers 5 load."""
    from headcount.directory.conversion import convert as convert_directory

    set_up(None)
    _wrote(new, convert_directory(old, new), {}, json_)


def export(
    model: Model,
    /,
    *,
    to: Annotated[str, Parameter("--to", help="onnx, openvino or ctranslate2.")],
    output: Output,
    threads: Threads = None,
    json_: Json = False,
) -> None:
    """Write a model in another runtime's format, and check that it computes the same there."""
    from headcount.running.export import export_model

    set_up(threads)
    exported = export_model(model, output, to)
    if json_:
        return print_json(exported.to_json())
    print_table([{"file": name, "MB": f"{size / 1e6:.2f}"} for name, size in exported.files.items()])
    print_lines(
        f"{exported.format}: takes {', '.join(exported.inputs)}; gives {', '.join(exported.outputs)}",
        f"difference from PyTorch: {exported.difference:.1e} of the largest output, over {exported.checked}",
        *exported.notes,
    )


def demo(
    *,
    output: Annotated[Path, Parameter(["--output", "-o"], help="Where models go.")] = Path("demo-output"),
    keep: Annotated[int, Parameter(help="Heads to keep, of the encoder's 72.")] = 12,
    keep_translation: Annotated[int, Parameter(help="Heads to keep, of the translation model's 24.")] = 8,
    json_: Json = False,
) -> None:
    """Prune a small pretrained encoder by two methods, then a translation model; offline, in a few minutes."""
    from headcount.experiments.demo.demonstration import LOADING, show_demo, show_translation

    set_up(None)
    rows = show_demo(output, keep, say)
    if not json_:
        print_table(rows)
        print_lines(LOADING.format(directory=output / "gradual"))
    translating, samples = show_translation(output / "translation", keep_translation, say)
    if json_:
        return print_json({"classification": rows, "translation": translating, "samples": samples})
    print_table(translating, "English to German")
    print_table(samples)
    print_lines(f'Translate yourself: echo "…" | headcount translate {output / "translation" / "gradual"}')


def _wrote(output: Path, subset: Any, more: dict[str, Any], json_: bool) -> None:
    if json_:
        data = {"output": str(output), "heads": len(subset.head_map), "kept": len(subset), "text": str(subset), **more}
        return print_json(data)
    sizes = "".join(f" ({value:,} {name})" for name, value in more.items())
    print_lines(f"Wrote {output}{sizes}: {len(subset)} of {len(subset.head_map)} heads; per layer: {subset}.")
