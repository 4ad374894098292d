"""The speed of what a sweep made: measured one at a time, when nothing else runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headcount.errors import PruningError
from headcount.experiments.grid import Run
from headcount.experiments.sweep.place import Place
from headcount.running.preview import compare_shapes
from headcount.settings.records import RECORD_NAME, machine, read_record

CONDITIONS = ("batch_size", "length", "threads", "rounds", "device", "matmul", "signature")
MEASURES = ("speedup", "speedup_low", "speedup_high", "predicted_speedup", "milliseconds", "tokens_per_second")


def measure_speed(
    runs: Sequence[Run], output: Path, say: Callable[[str], None] = lambda line: None, **conditions: int
) -> None:
    """Measure each run's structure beside the whole model's, and write it into the record; once for each structure.

    Args:
        runs: Those without a record, and those measured before, are passed over.
        output: The sweep's directory.
        say: Told in a line what goes on; and why a structure could not be measured, which does not stop the others.
        conditions: Of `measure.compare`: batch_size, length, threads, rounds, warmup.
    """
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        directory = Place(output.resolve()).run(run.name)
        if not (directory / RECORD_NAME).is_file():
            continue
        record = read_record(directory / RECORD_NAME)
        structure = (run.recipe.model, record.heads)
        if not record.speed:
            if structure not in known:
                say(f"measuring the speed of {record.heads}")
                try:
                    known[structure] = _measured(directory, record.heads, conditions)
                except PruningError as error:
                    say(f"its speed could not be measured: {error}")
                    known[structure] = {}
            replace(record, speed=known[structure]).write(directory / RECORD_NAME)
        known.setdefault(structure, record.speed)


def _measured(directory: Path, heads: str, conditions: dict[str, Any]) -> dict[str, Any]:
    [comparison] = compare_shapes(directory, [heads], runtimes=["pytorch"], **conditions)
    whole, pruned = comparison.timings[0], comparison.timings[-1]
    return {
        **{name: getattr(comparison, name) for name in CONDITIONS},
        **{name: getattr(pruned, name) for name in MEASURES},
        "milliseconds_before": whole.milliseconds,
        "processor": machine()["processor"],
    }
