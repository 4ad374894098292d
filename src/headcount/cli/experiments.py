"""Commands of experiments: one recipe, a grid of them, and the records that they leave."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from headcount.cli import arguments as of
from headcount.cli.arguments import Json, set_up
from headcount.cli.flags import named_values
from headcount.cli.pruning import show
from headcount.cli.terminal import confirm, print_json, print_lines, print_table, say
from headcount.errors import BadRecipe, PruningError

if TYPE_CHECKING:
    from headcount.experiments.grid import Run

MANY = 1000
"""A grid of more runs than this is asked about."""

File = Annotated[Path, Parameter(help="A TOML file, or a JSON file with the same names.")]
Changes = Annotated[
    list[str] | None,
    Parameter("--set", help="In place of the file's: data.train=other.tsv, training.epochs=1, seed=[0,1]."),
]


def run(
    recipe: File,
    /,
    *,
    output: of.Output,
    changes: Changes = None,
    model: Annotated[
        bool, Parameter(help="Write the pruned model; without it, the record alone.", negative="--no-model")
    ] = True,
    in_sweep: Annotated[
        bool,
        Parameter(
            "--in-sweep",
            help="The output is a sweep's directory. Share the sweep's stages of training, wait for another process "
            "at the same run, and write into runs/ or failed/ under the file's name.",
        ),
    ] = False,
    threads: of.Threads = None,
    json_: Json = False,
) -> None:
    """Carry out the recipe of a file: headcount prune, with everything in a file."""
    from headcount.experiments.grid import read_recipe
    from headcount.experiments.run import run_recipe
    from headcount.settings.toml import Document
    from headcount.settings.training import is_first_process

    wanted = read_recipe(Document.read(recipe), named_values("--set", changes))
    set_up(threads)
    if in_sweep:
        from headcount.experiments.grid import Run
        from headcount.experiments.sweep import Place, Work

        place = Place(output.resolve())
        record, output = Work(Run(recipe.stem, wanted), place, model).carry_out(), place.run(recipe.stem)
    else:
        record = run_recipe(wanted, output, say, keep_model=model)
    if is_first_process():
        show(record, output, json_, loads=model)


def sweep(
    grid: File,
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"], help="The sweep's directory. One that is there goes on.")],
    changes: Changes = None,
    only: of.Only = None,
    dry_run: Annotated[bool, Parameter("--dry-run", help="List the runs, and do nothing.")] = False,
    workers: of.Workers = None,
    ray: of.Ray = None,
    ray_cpus: of.RayCpus = None,
    ray_gpus: of.RayGpus = None,
    models: Annotated[
        bool, Parameter(negative="--no-models", help="Keep the pruned models, or the records alone.")
    ] = True,
    speed: Annotated[
        bool, Parameter("--speed", help="At the end, measure the speed of each structure, as bench does.")
    ] = False,
    retry: Annotated[bool, Parameter("--retry", help="Try failed runs again.")] = False,
    yes: Annotated[bool, Parameter("--yes", help=f"Do not ask, however many runs (above {MANY:,} it asks).")] = False,
    threads: of.ThreadsOfARun = None,
    json_: Json = False,
) -> None:
    """Carry out a grid of recipes: any field of the file a list. Started again, it does what is missing."""
    # Long: its parameters are the flags.
    from headcount.experiments.grid import Grid, having
    from headcount.settings.toml import Document

    of.require_sane(threads=threads)
    wanted = Grid(Document.read(grid), named_values("--set", changes))
    if wanted.count > MANY and not yes and not _agrees(wanted.count):
        raise BadRecipe(f"{grid} is a grid of {wanted.count:,} runs. To carry them out: --yes.")
    runs = having(wanted.runs(), only or ())
    if dry_run:
        return list_runs(runs, json_)

    from headcount.cli.terminal import Watch
    from headcount.experiments.sweep import measure_speed, run_sweep

    pool, share = pool_of(workers, ray, ray_cpus, ray_gpus)
    with saying_how_to_go_on(output), Watch() as watch:
        progress = run_sweep(
            runs, output, pool, retry=retry, keep_models=models, threads=threads or share, watch=watch.show
        )
    if json_:
        print_json({"done": sorted(progress.done), "failed": progress.failed})
    else:
        for name, error in progress.failed.items():
            print_lines(f"failed: {name}: {error}")
        again = " Try them again: --retry." if progress.failed and not retry else ""
        print_lines(
            f"{len(progress.done)} of {len(runs)} runs done, {len(progress.failed)} failed.{again} "
            f"See them: headcount records {output}; headcount report {output} -o report.html."
        )
    if speed:
        measure_speed(runs, output, say, threads=threads or 1)
    if progress.failed:
        sys.exit(1)


def records(
    sources: Annotated[list[Path], Parameter(help="Directories of runs or sweeps, or files of records.")],
    /,
    *,
    where: Annotated[
        list[str] | None, Parameter(help="Only records with that in a column: method=michel, kept=12.")
    ] = None,
    columns: Annotated[str | None, Parameter(help="Columns to show, between commas; --csv writes all of them.")] = None,
    csv: Annotated[Path | None, Parameter(help="Write every column of the records to this CSV file.")] = None,
    json_: Annotated[bool, Parameter("--json", help="Print the records whole, one JSON line each.")] = False,
    portable: Annotated[
        bool, Parameter("--portable", help="With --json: of models and data only the last two parts of their paths.")
    ] = False,
) -> None:
    """List records, choose among them, and hand them on."""
    from headcount.settings.records import read_records
    from headcount.settings.writing import write_csv

    if portable and not json_:
        raise BadRecipe("--portable is about what --json prints. Give both.")
    found, problems = read_records(*sources)
    rows = [record.row() for record in found]
    valid = list(dict.fromkeys(name for row in rows for name in row))
    chosen = [index for index, row in enumerate(rows) if _matches(row, where or [], valid)]
    for problem in problems:
        say(f"left out: {problem}")
    if csv is not None:
        write_csv(csv, valid, ([rows[index].get(name) for name in valid] for index in chosen))
        say(f"Wrote {len(chosen)} records to {csv}.")
    if json_:
        for index in chosen:
            print(json.dumps((found[index].portable() if portable else found[index]).to_json()))
        return
    shown = _columns(columns, [rows[index] for index in chosen], valid)
    print_table([{name: _text(rows[index].get(name)) for name in shown} for index in chosen])
    print_lines(f"{len(chosen)} of {len(rows)} records")


def pool_of(
    workers: int | None, ray: str | None, cpus: float | None, gpus: float | None
) -> tuple[Callable[[], Any], int]:
    """What makes the pool that runs are carried out by, and the CPU threads that each run has there.

    Raises:
        BadRecipe: An option is of the other kind of pool, or nothing answers at the cluster's address.
    """
    from headcount.experiments.sweep import Cluster, Workers, require_answer

    of.require_sane(workers=workers)
    if ray is not None:
        if workers is not None:
            raise BadRecipe("--workers are runs at a time on this machine. On Ray, --ray-cpus and --ray-gpus decide.")
        require_answer(ray)  # before anything is written
        cpus = 1.0 if cpus is None else cpus
        return partial(Cluster, ray, cpus, gpus or 0.0, say=say), max(1, int(cpus))
    if (cpus, gpus) != (None, None):
        raise BadRecipe("--ray-cpus and --ray-gpus are of runs on a Ray cluster. Name it: --ray auto, or host:port.")
    workers = workers or 1
    return partial(Workers, workers), max(1, (os.cpu_count() or 1) // workers)


@contextmanager
def saying_how_to_go_on(output: Path) -> Iterator[None]:
    """Within the block, Ctrl-C and SIGTERM stop the runs, and are an error that says how to go on.

    Raises:
        PruningError: One of them came.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise PruningError(f"Stopped. What is done is in {output}; the same command goes on.") from None


def list_runs(runs: "Sequence[Run]", json_: bool) -> None:
    """Print what would be done."""
    rows = [
        {"name": run.name, "method": run.recipe.method, "keep": run.recipe.keep, "seed": run.recipe.seed}
        for run in runs
    ]
    if json_:
        return print_json(rows)
    print_table([{name: _text(value) for name, value in row.items()} for row in rows])
    print_lines(f"{len(runs)} runs")


def _agrees(count: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return confirm(f"This is a grid of {count:,} runs. Carry them out?")


def _matches(row: dict[str, Any], where: list[str], valid: list[str]) -> bool:
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals:
            raise BadRecipe(f"Cannot read --where '{condition}'. Write column=value, as in --where method=michel.")
        if name not in valid:
            raise BadRecipe(f"No record has a column '{name}'. Columns: {', '.join(valid)}.")
        if not _is(row.get(name), value):
            return False
    return True


def _columns(columns: str | None, rows: list[dict[str, Any]], valid: list[str]) -> list[str]:
    if columns is not None:
        wanted = list(of.names(columns) or ())
        if unknown := [name for name in wanted if name not in valid]:
            raise BadRecipe(f"No record has a column '{unknown[0]}'. Columns: {', '.join(valid)}.")
        return wanted
    metrics = dict.fromkeys(name for row in rows for name in row if name.startswith("metric."))
    failed = ["error"] if any(row["error"] for row in rows) else []
    return ["name", "method", "kept", "total", "seed", *metrics, "heads", *failed]


def _is(value: Any, text: str) -> bool:
    """Whether a value is what a condition says: as it is shown, as JSON has it, or as another spelling of a number."""
    if text in (_text(value), json.dumps(value, default=str)):
        return True
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == float(text)
    except ValueError:
        return False


def _text(value: Any) -> str:
    """A value for people: of a number four decimals, or four digits if there are none before them."""
    if value is None:
        return ""
    if not isinstance(value, float) or value.is_integer():
        return str(value)
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.4g}"
