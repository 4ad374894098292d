"""A table or figure of a paper, as its file states it: what was published, and which grids give it again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headcount.errors import BadRecipe
from headcount.settings.toml import Document

FOLDER = Path(__file__).parent
SCALES = ("full", "small")
"""As published, for which a GPU or many are needed; and what two cores do."""
PAPERS = {
    "lottery": "Behnke and Heafield 2020, Losing Heads in the Lottery",
    "dsp": "Li, Cotterell and Sachan 2021, Differentiable Subset Pruning of Transformer Heads",
}


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper.

    Attributes:
        name: As in `lottery-table-3`.
        document: Its file.
        runs_of: The experiment whose runs give it: itself, or the one that its file names in `same_as`.
    """

    name: str
    document: Document
    runs_of: "Experiment | None" = None

    @property
    def source(self) -> "Experiment":
        """The experiment whose grids are carried out."""
        return self.runs_of or self

    @property
    def title(self) -> str:
        """What the paper calls it."""
        return str(self.document.data["title"])

    @property
    def paper(self) -> str:
        """Which of `PAPERS`."""
        return self.name.partition("-")[0]

    @property
    def what(self) -> str:
        """What it shows, in a sentence."""
        return str(self.document.data["what"])

    @property
    def shows(self) -> str:
        """Which table of `reproduction.tables` shows the same of our records."""
        return str(self.document.data["shows"])

    @property
    def differences(self) -> str:
        """How the small scale, and where need be the full one, differs from what was published."""
        return str(self.document.data["differences"])

    @property
    def seen(self) -> str:
        """What our small run gave beside what was published, in words; empty until it was run."""
        return str(self.document.data.get("seen", ""))

    @property
    def choices(self) -> tuple[str, ...]:
        """Which of a figure's choices show the same; empty: the first."""
        return tuple(self.document.data.get("choices", ()))

    @property
    def published(self) -> list[dict[str, Any]]:
        """The published numbers, a row of the paper's each."""
        table = self.document.data["published"]
        return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]

    @property
    def needs(self) -> Mapping[str, Any]:
        """What the full run's cost is reckoned from; see `reproduction.needs`."""
        table: Mapping[str, Any] = self.source.document.data["needs"]
        return table

    @property
    def speed(self) -> Mapping[str, int] | None:
        """The conditions under which speed is measured at the end; None: it is not."""
        table: Mapping[str, int] | None = self.source.document.data.get("speed")
        return table

    def sweep(self, scale: str, places: Mapping[str, str]) -> Document:
        """The sweep of that scale, with these places in the stead of `{output}`, `{corpus}`, `{data}` and `{model}`.

        Raises:
            BadRecipe: There is no such scale.
        """
        part = self._part(scale)
        return replace(part, data=_placed(part.data, places))

    def wants(self, scale: str, place: str) -> bool:
        """Whether the sweep of that scale names that place: `{data}`, say."""
        return any(f"{{{place}}}" in text for text in _texts(self._part(scale).data))

    def _part(self, scale: str) -> Document:
        if scale not in SCALES:
            raise BadRecipe(f"Unknown scale '{scale}'. Valid: {', '.join(SCALES)}.")
        return self.source.document.part(scale)


def experiment_names() -> list[str]:
    """The names of all experiments, those of one paper together, in the paper's order."""
    return sorted((file.stem for file in FOLDER.glob("*.toml")), key=lambda name: (name[0] != "l", _order(name)))


def read_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        BadRecipe: There is none.
    """
    names = experiment_names()
    if name not in names:
        raise BadRecipe(f"There is no experiment '{name}'. Experiments: {', '.join(names)}.")
    document = Document.read(FOLDER / f"{name}.toml")
    same = document.data.get("same_as")
    return Experiment(name, document, None if same is None else read_experiment(same))


def _order(name: str) -> tuple[bool, int, str]:
    """Tables before figures, by number."""
    _, kind, number = name.split("-")
    return kind == "figure", int("".join(character for character in number if character.isdigit())), number


def _placed(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for place, path in places.items():
            value = value.replace(f"{{{place}}}", path)
        return value
    if isinstance(value, Mapping):
        return {name: _placed(each, places) for name, each in value.items()}
    return [_placed(each, places) for each in value] if isinstance(value, list) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)
