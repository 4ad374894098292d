"""Commands that measure."""

from typing import Annotated, Any

from cyclopts import CycloptsError, Parameter

from headcount.cli.arguments import Json, set_up
from headcount.cli.terminal import print_json, print_lines, print_table, say


def bench(
    models: Annotated[
        list[str] | None, Parameter(help="Models and exports; the others are compared with the first.")
    ] = None,
    /,
    *,
    shape: Annotated[
        str | None, Parameter(help="Instead: a model of which only the configuration is taken, with random weights.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        Parameter(help="With --shape: a budget (12, 25%), or heads per site ('5 1 3 1 5 6'). Default: 50% and 25%."),
    ] = None,
    sites: Annotated[str | None, Parameter(help="With --shape: budgets over one kind of site.")] = None,
    runtime: Annotated[
        list[str] | None, Parameter(help="With --shape: pytorch, onnxruntime, openvino, ctranslate2. Default: all.")
    ] = None,
    batch_size: Annotated[int, Parameter(help="Sequences in the batch.")] = 8,
    length: Annotated[int, Parameter(help="Tokens in each sequence.")] = 128,
    threads: Annotated[int, Parameter(help="CPU threads.")] = 1,
    rounds: Annotated[int, Parameter(help="Rounds that count; each runs every model once.")] = 20,
    warmup: Annotated[int, Parameter(help="Rounds before those.")] = 3,
    json_: Json = False,
) -> None:
    """Time models next to each other: paired, interleaved; speed-ups are medians of ratios within a round."""
    # Long: its parameters are the flags.
    from headcount.running.measure import compare, distinct
    from headcount.running.preview import compare_shapes
    from headcount.running.runtimes import open_model

    if (shape is None) == (not models):
        raise CycloptsError(
            command_chain=("bench",),
            msg="Give the models to compare, or one configuration: --shape MODEL --keep 12 --keep 36.",
        )
    if shape is None and (keep or runtime or sites):
        raise CycloptsError(
            command_chain=("bench",),
            msg="--keep, --sites and --runtime go with --shape; models have the heads they have.",
        )
    set_up(threads)
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
