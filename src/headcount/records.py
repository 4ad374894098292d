"""A record: what came out of a run, with the recipe that made it; and the signature that every number carries."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headcount.writing import write_atomically

FORMAT_VERSION = 1


def signature(parts: Mapping[str, Any]) -> str:
    """One line that says how a number was made, as sacreBLEU does it: `method:michel|keep:12/72|…|v:0.1.0`.

    A part whose value is None is left out; headcount's own version is always the last part.
    """
    shown = [f"{name}:{value}" for name, value in parts.items() if value is not None]
    return "|".join([*shown, f"v:{version('headcount')}"])


@dataclass(frozen=True)
class Record:
    """What came out of a run.

    Attributes:
        signature: How the numbers were made, in one line.
        recipe: Everything that defined the run, as plain data.
        subset: The heads kept per site, in the original numbering.
        heads: The same as the papers print it: the number kept per layer.
        metrics: The task's figures of the pruned model, in [0, 1] where they are shares.
        size: Parameters and bytes, before and after.
        costs: Optimiser steps, seconds and peak memory in bytes, of `training` and of what served `selection` alone.
        dynamics: What was seen during training, one entry a look.
        notes: What the method has to tell of this run.
        versions: The versions of the libraries that have a say in the numbers.
    """

    signature: str
    recipe: dict[str, Any]
    subset: dict[str, list[int]]
    heads: str
    metrics: dict[str, float]
    size: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    dynamics: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the record as one line of JSON, aside and then renamed: a reader sees all of it or nothing."""
        write_atomically(path, json.dumps(self.to_json()) + "\n")


def read_record(path: Path) -> Record:
    """The record that `Record.write` wrote."""
    return Record(**json.loads(path.read_text(encoding="utf-8")))


def library_versions() -> dict[str, str]:
    """The versions of the libraries that have a say in the numbers."""
    return {name: version(name) for name in ("headcount", "torch", "transformers", "tokenizers", "numpy", "datasets")}
