"""The page: one file of HTML with its style, its scripts and its data inside, that asks nothing of any network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from headcount.report.recorded import Group, RecordedRun, number
from headcount.report.surviving import Surviving
from headcount.report.tables import glance
from headcount.report.values import MARKERS, PALETTE, Figure, Line, Table
from headcount.settings.records import Record

SCRIPTS = ("card.js", "chart.js", "heads.js", "page.js")


@dataclass(frozen=True)
class Section:
    """A part of the page on one question: figures and tables under a heading, and what it is about."""

    key: str
    title: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    heads: Surviving | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """What all its figures let one choose."""
        return next((figure.choices for figure in self.figures if figure.choices), ())


@dataclass(frozen=True)
class Part:
    """What the page shows of one group."""

    group: Group
    sections: tuple[Section, ...]

    @property
    def glance(self) -> list[tuple[str, Any, str]]:
        """What to know first."""
        return glance(self.group)


def page(records: Sequence[Record], parts: Sequence[Part], title: str, problems: Sequence[str]) -> str:
    """The page's text."""
    here = files("headcount.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    script = "".join(here.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{{\n{script}\n}}\n'
    found = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        parts=parts,
        count=len(records),
        failed=[(index, record) for index, record in enumerate(records) if record.error is not None],
        problems=problems,
        style=Markup(style),
        script=Markup(script),
        data=Markup(embedded(_data(records, parts))),
        policy=_policy(style, script),
        versions=_distinct(record.versions for record in records),
        machines=_distinct(record.machine for record in records),
    )
    return found.encode("utf-8", "replace").decode("utf-8")  # a record may hold half of a surrogate pair


def embedded(data: Any) -> str:
    """The data as JSON that may stand in a script element: no text in it, whatever it is, ends the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))  # ASCII: no line separators of Unicode's either
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, script: str) -> str:
    """A content security policy: this style and these scripts, and nothing from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    sources = f"style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'"
    return f"default-src 'none'; {sources}; img-src data:; base-uri 'none'; form-action 'none'"


def _data(records: Sequence[Record], parts: Sequence[Part]) -> dict[str, Any]:
    quality = {run.index: part.group.quality(run) for part in parts for run in part.group.runs}
    return {
        "palette": PALETTE,
        "markers": MARKERS,
        "records": [_record(record, quality.get(index)) for index, record in enumerate(records)],
        "parts": [
            {
                "metric": part.group.metric_label,
                "figures": {figure.key: _figure(figure) for section in part.sections for figure in section.figures},
                "heads": next((_heads(section.heads) for section in part.sections if section.heads), None),
            }
            for part in parts
        ],
    }


def _record(record: Record, quality: float | None) -> dict[str, Any]:
    metrics = {str(name): number(value) for name, value in record.metrics.items()}
    return {
        "signature": record.signature,
        "name": record.name,
        "method": str(record.recipe.get("method")),
        "seed": record.recipe.get("seed"),
        "kept": record.kept,
        "total": record.total,
        "heads": record.heads,
        "quality": _round(quality),
        "metrics": {name: _round(value) for name, value in metrics.items() if value is not None},
        "speedup": _round(number(record.speed.get("speedup"))),
        "error": record.error,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "key": figure.key,
        "title": figure.title,
        "x": figure.x,
        "y": figure.y,
        "log": figure.log,
        "lines": [_line(line) for line in figure.lines],
        "level": None if figure.level is None else _line(figure.level),
        "choices": figure.choices,
    }


def _line(line: Line) -> dict[str, Any]:
    """The line by columns: over a thousand runs, the names of points' fields would be most of the page."""
    points = line.points
    runs = [each.runs for each in points]
    plain = {
        "name": line.name,
        "colour": line.colour,
        "style": line.style,
        "choice": line.choice,
        "x": [_round(each.x) for each in points],
        "y": [_round(each.y) for each in points],
        "runs": list(runs[0]) if len(set(runs)) == 1 else runs,
    }
    if any(each.low != each.high for each in points):
        plain |= {"low": [_round(each.low) for each in points], "high": [_round(each.high) for each in points]}
    if any(each.each for each in points):
        plain["each"] = [[_round(value) for value in each.each] for each in points]
    return plain


def _heads(found: Surviving) -> dict[str, Any]:
    def plain(name: str, seed: str, run: RecordedRun, subset: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
        return {"series": name, "seed": seed, "run": run.index, "kept": run.kept, "subset": subset}

    layers = [{"name": each.name, "kind": each.kind, "layer": each.layer, "heads": each.heads} for each in found.layers]
    return {"layers": layers, "runs": [plain(*each) for each in found.runs]}


def _round(value: float | None) -> float | int | None:
    """Six digits: more than any screen shows."""
    if value is None:
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _distinct(found: Any) -> list[str]:
    texts = (", ".join(f"{name} {value}" for name, value in each.items() if value is not None) for each in found)
    return list(dict.fromkeys(text for text in texts if text))
