"""Writes docs/families.md from a test run: a row a family, a column an operation, a cell what its tests showed.

Tests say which cell they are about by the properties `family` and `operation`, and by `refused` if what they showed is
that headcount refuses, and why. `make families` runs them all.
"""

import re
from pathlib import Path
from typing import Any

import torch
import transformers

from families import FAMILIES

OPERATIONS = ("gate", "cut", "empty site", "train", "generate", "save/load", "ONNX", "OpenVINO", "CTranslate2")
HEAD = """# Model families

Written by `make families` from a test run; not by hand. transformers {transformers}, torch {torch}.

Each family is a tiny model with random weights, tested with every attention implementation it has (`sdpa`, `eager`).

- **gate**: gates on its heads learn, through finite gradients.
- **cut**: a model with heads removed computes what it computed with them gated off (1e-5 in float32), for random uneven
  subsets; removing in two steps equals removing in one.
- **empty site**: also with no head left in the first and the last layer of each kind, or in any layer at all.
- **train**: a cut model trains.
- **generate**: gated and cut models generate equal tokens: greedy, beam search, sampling, static cache, left padding.
- **save/load**: the family's Auto class loads a pruned directory, and what it saves again, with equal bits.
- **ONNX**, **OpenVINO**, **CTranslate2**: an export with uneven sites, the first one empty, computes what PyTorch
  computes (1e-5 in float32), for any batch and length that the model takes. One forward pass; CTranslate2 translates.

"""


class FamiliesPage:
    """A pytest plugin that gathers the cells and writes the page when the run is over.

    Cells whose tests did not run this time stay as an earlier run wrote them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[tuple[str, str], list[str]] = {}
        self.earlier: dict[tuple[str, str], str] = {}
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            notes = {note[1]: note[2] for line in lines if (note := re.match(r"(\d+)\. (.+)", line))}
            lines = [re.sub(r"no \[(\d+)\]", lambda cell: f"no: {notes[cell[1]]}", line) for line in lines]
            rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
            self.earlier = {
                (row[0], operation): cell
                for row in rows[1:]
                for operation, cell in zip(OPERATIONS, row[2:], strict=True)
            }

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test is over: what it showed, goes into its cell."""
        facts = dict(report.user_properties)
        if report.when != "call" or "family" not in facts:
            return
        cell = self.cells.setdefault((facts["family"], facts["operation"]), [])
        if not report.passed:
            cell.append("**fails**")
        elif "refused" in facts:
            cell.append(f"no: {facts['refused']}")
        else:
            cell.append("yes")

    def pytest_sessionfinish(self) -> None:
        """The run is over: the page."""
        table = [f"| family | class | {' | '.join(OPERATIONS)} |", f"|---|---|{'---|' * len(OPERATIONS)}"]
        reasons: dict[str, int] = {}
        for family, spec in FAMILIES.items():
            cells = [self._cell(family, operation) for operation in OPERATIONS]
            for reason in (cell.removeprefix("no: ") for cell in cells if cell.startswith("no: ")):
                reasons.setdefault(reason, len(reasons) + 1)
            shown = [
                f"no [{reasons[cell.removeprefix('no: ')]}]" if cell.startswith("no: ") else cell for cell in cells
            ]
            table.append(f"| {family} | `{spec.model}` | {' | '.join(shown)} |")
        notes = [f"{number}. {reason}" for reason, number in reasons.items()]
        head = HEAD.format(transformers=transformers.__version__, torch=torch.__version__.split("+")[0])
        self.path.write_text(head + "\n".join([*table, "", *notes]) + "\n" + refused_families(), encoding="utf-8")

    def _cell(self, family: str, operation: str) -> str:
        seen = self.cells.get((family, operation))
        if not seen:
            absent = "–" if operation == "generate" and not FAMILIES[family].generates else "not run"
            return self.earlier.get((family, operation), absent)
        return "**fails**" if "**fails**" in seen else seen[0]


def refused_families() -> str:
    """The families that the tests show to be refused, with the reason."""
    from refusals import REFUSED

    lines = [f"- {family} (`{named}`): {why}." for family, (_, _, _, named, why) in REFUSED.items()]
    return (
        "\n## Refused\n\nOf these, and of every attention class that is not in the table, heads are neither gated nor\n"
        "cut; `UnsupportedModel` says what was looked at.\n\n" + "\n".join(lines) + "\n"
    )
