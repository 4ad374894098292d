"""The record of a run: its recipe, its results and the signature of its numbers."""

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from headcount.errors import CorruptRecord
from headcount.settings.writing import write_atomically

FORMAT_VERSION = 2
"""The version of a record. Version 1 lacks name, sites, flops, speed, machine and error."""

RECORD_NAME = "headcount.json"
"""The record's file name in a pruned model's directory."""
_SITE = ("name", "kind", "layer", "heads")
_PATH = re.compile(r"(?<![\w.:/])(?:/[^\s/'\",:;()]+){2,}")
"""The pattern of an absolute path in a sentence. It does not match the end of a URL."""


def signature(parts: Mapping[str, Any]) -> str:
    """Return one line that says how a number was made: `method:michel|keep:12/72|…|v:0.1.0`.

    The form is sacreBLEU's. It leaves out a part whose value is None. The last part is headcount's version.
    """
    shown = [f"{name}:{value}" for name, value in parts.items() if value is not None]
    return "|".join([*shown, f"v:{version('headcount')}"])


@dataclass(frozen=True)
class Record:
    """The results of a run, with its recipe.

    Attributes:
        signature: How the numbers were made, in one line.
        recipe: Everything that defined the run, as plain data.
        subset: The heads kept per site, in the original numbering.
        heads: The number of heads kept per layer, as the papers print it.
        metrics: The task's metrics of the pruned model. Shares are in [0, 1].
        size: Parameters and bytes, before and after.
        costs: Optimiser steps, seconds and peak memory in bytes: of `training`, and of `selection` alone.
        dynamics: The evaluations during training, one entry each.
        notes: The method's own remarks about this run.
        versions: The versions of the libraries that can change the numbers.
        name: The name of the run within its sweep.
        sites: The head map of the model as it was built: see `HeadMap.to_json`.
        flops: Floating-point operations of a forward pass, before and after; see `measure.forward_flops`.
        speed: The `Timing` of the pruned and of the unpruned model, and the conditions. Empty if not measured.
        machine: The machine that the run used.
        error: What went wrong, if the run failed. Such a run has no metrics.
    """

    signature: str
    recipe: dict[str, Any]
    subset: dict[str, list[int]]
    heads: str
    metrics: dict[str, float]
    size: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    costs: dict[str, dict[str, float | int]] = field(default_factory=dict)
    dynamics: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    name: str = ""
    sites: list[dict[str, Any]] = field(default_factory=list)
    flops: dict[str, int] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    format_version: int = FORMAT_VERSION

    @property
    def kept(self) -> int:
        """Return the number of heads kept."""
        return sum(len(heads) for heads in self.subset.values())

    @property
    def total(self) -> int | None:
        """Return the number of heads before pruning, or None for a record of version 1."""
        return sum(site["heads"] for site in self.sites) or None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)

    def portable(self) -> "Record":
        """Return a copy that shortens every path to its last two parts, also in the error message."""

        def short(value: str) -> str:
            return ",".join("/".join(PurePath(part).parts[-2:]) for part in value.split(","))

        data = {
            name: short(value) if isinstance(value, str) and not value.startswith(("hub:", "sacrebleu:")) else value
            for name, value in self.recipe.get("data", {}).items()
        }
        model = str(self.recipe.get("model", ""))
        recipe = {**self.recipe, "data": data, "model": model if model.startswith("new:") else short(model)}
        error = None if self.error is None else _PATH.sub(lambda found: short(found[0]), self.error)
        return replace(self, recipe=recipe, error=error)

    def write(self, path: Path) -> None:
        """Write the record as one line of JSON, atomically."""
        write_atomically(path, json.dumps(self.to_json()) + "\n")

    def row(self) -> dict[str, Any]:
        """Return the record as one row of a table, with a column for each setting and each result."""
        recipe = self.recipe
        spread = {
            **{f"option.{name}": value for name, value in recipe.get("options", {}).items()},
            **{f"training.{name}": value for name, value in recipe.get("training", {}).items()},
            **{f"data.{name}": value for name, value in recipe.get("data", {}).items()},
            **{f"metric.{name}": value for name, value in self.metrics.items()},
            **{f"size.{when}.{name}": value for when, size in self.size.items() for name, value in size.items()},
            **{f"cost.{what}.{name}": value for what, cost in self.costs.items() for name, value in cost.items()},
            **{f"flops.{when}": value for when, value in self.flops.items()},
            **{f"speed.{name}": value for name, value in self.speed.items() if not isinstance(value, dict | list)},
            **{f"version.{name}": value for name, value in self.versions.items()},
            **{f"machine.{name}": value for name, value in self.machine.items()},
        }
        return {
            "name": self.name,
            **{name: recipe.get(name) for name in ("task", "model", "method", "keep", "sites", "unit", "seed")},
            "kept": None if self.error is not None else self.kept,
            "total": self.total,
            "heads": self.heads,
            **spread,
            "error": self.error,
            "signature": self.signature,
        }


def read_record(path: Path) -> Record:
    """Return the record that `Record.write` wrote.

    Raises:
        CorruptRecord: The file is damaged, or of a newer format.
    """
    return _parse(path.read_text(encoding="utf-8"), str(path))


def read_records(*sources: str | Path) -> tuple[list[Record], list[str]]:
    """Return all records at these places, and one line for each problem.

    Args:
        sources: Files with one record as JSON per line, or directories. The search of a directory includes all
            folders in it. It may be that of a run or of a sweep, or hold `.json` and `.jsonl` files.

    Raises:
        CorruptRecord: A place does not exist, or a named file holds no record.
    """
    records: dict[tuple[str, str], Record] = {}
    problems = []
    for source in map(Path, sources):
        if not source.exists():
            raise CorruptRecord(
                f"There is nothing at '{source}'. Name a run's directory, a sweep's, or a records file."
            )
        for file in [source] if source.is_file() else sorted(_files(source)):
            text, found = file.read_text(encoding="utf-8", errors="replace"), 0
            if file != source and file.suffix == ".jsonl" and '"signature"' not in text:
                continue  # other data beside records
            for number, line in enumerate(text.splitlines(), start=1):
                if not line.strip():
                    continue
                try:
                    record = _parse(line, f"{file}, line {number}")
                except CorruptRecord as problem:
                    problems.append(str(problem))
                else:
                    name = record.name or (file.parent.name if file.name == RECORD_NAME else file.stem)
                    # A run's directory and a sweep's list may hold the same record, the list without its paths.
                    records.setdefault((name, _identity(record)), replace(record, name=name))
                    found += 1
            if file == source and not found:
                lines = sum(bool(line.strip()) for line in text.splitlines())
                one = problems[-1].partition(": ")[2] if lines else "it is empty"
                why = one if lines < 2 else f"{lines} lines are none"
                raise CorruptRecord(f"'{source}' holds no record of headcount: {why}")
    return list(records.values()), problems


def _files(directory: Path) -> Iterable[Path]:
    """Find the records of runs, the lists of records, and single records among other files."""
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".") and not name.endswith(".checkpoints")]
        if RECORD_NAME in names:
            yield Path(folder, RECORD_NAME)
            folders.clear()  # the other files of a model's directory are no records
        else:
            yield from (Path(folder, name) for name in names if name.endswith(".jsonl") or _is_record(folder, name))


def _is_record(folder: str, name: str) -> bool:
    if not name.endswith(".json"):
        return False
    with open(Path(folder, name), encoding="utf-8", errors="replace") as file:
        return file.read(14).startswith('{"signature":')


def _identity(record: Record) -> str:
    """What makes a record another one than that of the same name: its speed may have been measured since."""
    to_others = record.portable()
    return json.dumps([record.signature, to_others.error, to_others.recipe, record.subset, record.metrics])


def _parse(line: str, place: str) -> Record:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise CorruptRecord(
            f"{place}: not whole JSON ({error.msg}, character {min(error.pos + 1, len(line))} of {len(line)}); the "
            "record was cut off or changed. Remove it, and run its recipe again."
        ) from error
    if not isinstance(data, dict) or not isinstance(data.get("format_version"), int):
        raise CorruptRecord(f"{place}: not a record of headcount.")
    if (found := data["format_version"]) > FORMAT_VERSION:
        raise CorruptRecord(
            f"{place}: record of format version {found}; this headcount reads up to {FORMAT_VERSION}. Update headcount."
        )
    required = ("signature", "recipe", "subset", "heads", "metrics")
    if lacking := [name for name in required if name not in data]:
        raise CorruptRecord(f"{place}: the record lacks {', '.join(lacking)}. Remove it, and run its recipe again.")
    found = {each.name: data[each.name] for each in fields(Record) if each.name in data}
    wrong = _unreadable(found) or _unreadable(_parts(found))
    if wrong:
        raise CorruptRecord(
            f"{place}: {' and '.join(wrong)} of the record cannot be read. Remove it, and run its recipe again."
        )
    return Record(**found)


def _parts(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the rest of headcount looks into: the recipe's tables and the sites' facts."""
    recipe, sites = found["recipe"], found.get("sites", [])
    tables = [recipe[name] for name in ("data", "options", "training") if name in recipe]
    return {"recipe's tables": tables, "sites' facts": [tuple(site.get(name) for name in _SITE) for site in sites]}


def _unreadable(values: Mapping[str, Any]) -> list[str]:
    wrong = []
    for name, value in values.items():
        try:
            _adapters()[name].validate_python(value)
        except ValidationError:
            wrong.append(name.partition("'")[0])
    return wrong


@cache
def _adapters() -> dict[str, Any]:
    parts = {"recipe's tables": list[dict[str, Any]], "sites' facts": list[tuple[str, str, int, int]]}
    kinds = {**get_type_hints(Record), **parts}
    return {name: TypeAdapter(kind, config=ConfigDict(strict=True)) for name, kind in kinds.items()}


def short_source(source: str) -> str:
    """What data are called: the last folder and the bare name of a file, `nli/train`; of two files, the first's.

    A Hub name stays as it is.
    """
    source = source.split(",")[0]
    if source.startswith("hub:"):
        return source.removeprefix("hub:").replace(":", "/")
    path = PurePosixPath(source.replace("\\", "/"))
    return "/".join([*path.parts[-2:-1], path.name.split(".")[0]])


def library_versions() -> dict[str, str]:
    """The versions of the libraries that have a say in the numbers."""
    return {name: version(name) for name in ("headcount", "torch", "transformers", "tokenizers", "numpy", "datasets")}


def machine(accelerator: str | None = None) -> dict[str, Any]:
    """What this process runs on: the processor's name and cores, the system, the accelerator if there is one."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "accelerator": accelerator,
    }


def _processor() -> str:
    """The processor's name. Where the system has it: `platform` gives only its instruction set on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
