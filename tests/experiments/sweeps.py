"""A grid of tiny runs, and what two sweeps of it must have in common."""

from pathlib import Path
from typing import Any

from headcount.experiments.grid import Grid, Run
from headcount.settings.records import Record, read_records
from headcount.settings.toml import Document

GRID = """\
model = "{model}"
keep = {keep}
seed = {seed}

[data]
train = "{train}"
validation = "{validation}"
development = 16

[training]
epochs = 1
batch_size = 8
lr = 1e-3
checkpoint_every = 2
looks = 2

[[grid]]
method = {method}

[[grid]]
method = "lottery"
options = {{late_reset = 2, iteration = 1, heads_per_iteration = 3}}
"""


def runs_of(file: Path) -> list[Run]:
    return Grid(Document.read(file), {}).runs()


def settled(record: Record) -> dict[str, Any]:
    """A record without what another run of the same recipe need not repeat: times, memory, means since a kill."""
    plain = record.to_json()
    plain["costs"] = {what: cost["steps"] for what, cost in plain["costs"].items()}
    plain["dynamics"] = [
        {name: value for name, value in look.items() if name not in ("loss", "grad_norm")} for look in plain["dynamics"]
    ]
    return plain


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    found, problems = read_records(output / "runs")
    assert problems == []
    return {record.name: settled(record) for record in found}
