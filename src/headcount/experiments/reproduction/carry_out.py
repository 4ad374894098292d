"""An experiment in, a directory of runs, their records and a report out."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headcount.errors import BadData
from headcount.experiments.demo.corpus import write as write_corpus
from headcount.experiments.demo.parallel_corpus import write as write_parallel_corpus
from headcount.experiments.grid import Grid, Run, having
from headcount.experiments.reproduction.experiment import Experiment
from headcount.experiments.sweep import Pool, Progress, measure_speed, run_sweep
from headcount.settings.records import Record, read_records

GENERATED = {
    "name": "rules",
    "data.max_length": 64,
    "training.epochs": 0.55,
    "training.batch_size": 16,
    "training.lr": 2e-4,
    "training.group_by_length": False,
}
"""What a classification experiment takes instead where no data are given: headcount's own corpus, as in its demo."""


@dataclass(frozen=True)
class Plan:
    """An experiment at a scale, in a directory.

    Attributes:
        experiment: Which.
        scale: Of `SCALES`.
        output: The directory to write.
        data: The user's data, `nli/` and `sst2/`. None: the small scale takes what headcount generates.
        model: The encoder of the small scale. None: the demonstration's.
        changes: Values in place of the file's; see `Grid`.
        only: Only runs whose names have all of these parts, whole between hyphens; and those that they go on from.
    """

    experiment: Experiment
    scale: str
    output: Path
    data: Path | None = None
    model: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    only: Sequence[str] = ()

    def runs(self) -> list[Run]:
        """Every run; nothing is read, written or fetched for it.

        Raises:
            BadRecipe: A recipe is not valid, no run has that in its name, or the demonstration's encoder is wanted but
                not installed.
        """
        output = self.output.resolve()
        corpus = output / "data"
        places = {"output": str(output), "corpus": str(corpus), "data": str((self.data or corpus).resolve())}
        if self.experiment.wants(self.scale, "model"):
            places["model"] = self.model or _encoder()
        document = self.experiment.sweep(self.scale, places)
        changes = dict(self.changes)
        if self._generates():
            first = document.data["grid"][0].get("name")
            grids = [table for table in document.data["grid"] if table.get("name") == first]
            document = replace(document, data={**document.data, "grid": grids})
            files = {f"data.{name}": str(corpus / f"{name}.jsonl.gz") for name in ("train", "validation")}
            taken = GENERATED if "epochs" in document.data["training"] else {"name": GENERATED["name"]}
            changes = {**taken, **files, **changes}
        runs = Grid(document, changes).runs()
        chosen = {run.name for run in having(runs, self.only)}
        before = needed(runs, self.output)
        while more := {before[name] for name in chosen if name in before} - chosen:
            chosen |= more
        return [run for run in runs if run.name in chosen]

    def write_data(self) -> None:
        """Write the corpora that headcount generates, if the scale wants them; and look for the files it wants.

        Raises:
            BadData: A file is not in the user's directory.
        """
        corpus = self.output / "data"
        if self.experiment.wants(self.scale, "corpus") and not (corpus / "validation.de").is_file():
            write_parallel_corpus(corpus)
        if self._generates() and not (corpus / "validation.jsonl.gz").is_file():
            for file in write_corpus(corpus):
                # Packed: a plain .jsonl in a sweep's directory is taken for records.
                file.with_suffix(".jsonl.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
                file.unlink()
        if self.data is not None and self.experiment.wants(self.scale, "data"):
            wanted = {str(run.recipe.data[name]) for run in self.runs() for name in ("train", "validation")}
            if missing := sorted(file for file in wanted if not Path(file).is_file()):
                raise BadData(
                    f"There is no {', '.join(missing)}. The directory given by --data must hold nli/train.jsonl.gz, "
                    "nli/validation.jsonl.gz, sst2/train.tsv.gz and sst2/validation.tsv.gz; or give none, and take the "
                    "corpus that headcount generates."
                )

    def _generates(self) -> bool:
        return self.data is None and self.experiment.wants(self.scale, "data")


def reproduce(
    plan: Plan,
    make_pool: Callable[[], Pool],
    *,
    retry: bool = False,
    threads: int = 1,
    watch: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Progress, list[Record], list[str]]:
    """Carry out an experiment; what is done already is not done again.

    Args:
        plan: What to do, and where.
        make_pool: See `run_sweep`.
        retry: See `run_sweep`.
        threads: See `run_sweep`.
        watch: See `run_sweep`.
        say: Told in a line what goes on.

    Returns:
        How all runs went, the records, and what is wrong with those that cannot be read.

    Raises:
        PruningError: See `run_sweep`, `Plan.runs` and `Plan.write_data`.
    """
    runs = plan.runs()
    plan.write_data()
    total = Progress()
    before = needed(runs, plan.output)
    for wave in waves(runs, plan.output):
        for run in wave:
            if before.get(run.name) in total.failed:
                total.failed[run.name] = f"Not begun: it goes on from {before[run.name]}, which failed."
        ready = [run for run in wave if run.name not in total.failed]
        progress = run_sweep(ready, plan.output, make_pool, retry=retry, threads=threads, watch=watch)
        total.done += progress.done
        total.failed |= progress.failed
        total.seconds += progress.seconds
    if plan.experiment.speed is not None:
        measure_speed(runs, plan.output, say, **plan.experiment.speed)
    return total, *read_records(plan.output / "runs", plan.output / "failed")


def needed(runs: Sequence[Run], output: Path) -> dict[str, str]:
    """Of runs that go on from another's model, which stands in their recipes as `OUTPUT/runs/NAME`: that NAME."""
    place, names = output.resolve() / "runs", {run.name for run in runs}
    models = {run.name: Path(run.recipe.model) for run in runs}
    return {name: model.name for name, model in models.items() if model.parent == place and model.name in names}


def waves(runs: Sequence[Run], output: Path) -> list[list[Run]]:
    """Runs in waves: those of one go on from models of earlier ones."""
    before = needed(runs, output)
    found: list[list[Run]] = []
    waiting = list(runs)
    while waiting:
        left = {run.name for run in waiting}
        wave = [run for run in waiting if before.get(run.name) not in left - {run.name}]
        found.append(wave)
        waiting = [run for run in waiting if run not in wave]
    return found


def _encoder() -> str:
    from headcount.experiments.demo.demonstration import encoder_directory

    return str(encoder_directory())
