"""Tables of labelled examples: text and label of every row, as text, and where in its source it stands."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from datasets import ClassLabel, Dataset, load_dataset
from datasets.exceptions import DatasetsError

from headcount.data.columns import Columns, choose_columns
from headcount.data.lines import read_rows
from headcount.errors import BadData
from headcount.running.quiet import no_progress_bars

_HUB = re.compile(r"hub:(?P<name>[^:\[\]]+)(:(?P<config>[^:\[\]]+))?:(?P<split>[^:\[\]]+(\[[^\]]*\])?)")


@dataclass(frozen=True)
class Table:
    """Labelled examples read from one source.

    Attributes:
        source: The file or Hub data set, as the user named it.
        columns: The text columns, one or two, and the label column.
        rows: These columns of every row, all as text.
        places: Where each row stands: its line in the file, or its row in a data set, both from 1.
        stated: The labels in the order the source itself states (`ClassLabel` of a data set). None: none.
    """

    source: str
    columns: Columns
    rows: Dataset
    places: list[int] = field(repr=False)
    stated: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.places)

    @property
    def labels(self) -> list[str]:
        """The label of every row."""
        return list(self.rows[self.columns.label])

    def where(self, row: int) -> str:
        """Where a row stands, for messages: `data/train.tsv, line 12`."""
        return place_in(self.source, self.places[row])

    def take(self, rows: Sequence[int]) -> "Table":
        """The table with these rows only, in this order."""
        picked = self.rows.select(rows, keep_in_memory=True)
        return replace(self, rows=picked, places=[self.places[row] for row in rows])


def read_table(
    source: str,
    text: tuple[str, ...] | None = None,
    label: str | None = None,
    skip_unlabelled: bool = False,
) -> Table:
    """The labelled examples of a local file or of a data set on the Hugging Face Hub.

    A file ends in `.tsv`, `.csv`, `.jsonl` or `.json` (JSON lines, too), or that with `.gz`. TSV and CSV name
    their columns in the first line; TSV has no quoting. Nothing is guessed about values: a sentence `nan`
    stays a sentence, and an integer label is the text of its digits. A data set on the Hub is
    `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT`, as in `hub:nyu-mll/glue:mnli:validation_matched`; a split may
    be sliced, `train[:1000]`. It goes through `datasets.load_dataset`, and so through its cache; reading a
    file leaves nothing behind.

    Args:
        source: The file or data set.
        text: One text column, or two for pairs. None: guessed from the names (`choose_columns`).
        label: The label column. None: guessed.
        skip_unlabelled: Leave out rows without a label, instead of refusing the table: an empty or missing
            one, -1 in a data set of the Hub, `-` in a column `gold_label` (SNLI: the annotators did not
            agree).

    Raises:
        BadData: With file and line, and what to do about it.
    """
    if source.startswith("hub:"):
        return _from_hub(source, text, label, skip_unlabelled)
    rows = iter(read_rows(Path(source)))
    first = next(rows, None)
    if first is None:
        raise BadData(f"{source} is empty: it has no row of data.")
    columns = choose_columns(source, list(first[1]), text, label)
    return _table(source, columns, chain([first], rows), skip_unlabelled)


def _table(
    source: str, columns: Columns, rows: Iterable[tuple[int, Mapping[str, object]]], skip_unlabelled: bool
) -> Table:
    """Check and collect the columns that count; the others are not even kept."""
    kept: dict[str, list[str]] = {name: [] for name in [*columns.text, columns.label]}
    places = []
    for place, row in rows:
        missing = [name for name in columns.text if name not in row]
        if missing:
            raise BadData(f"{place_in(source, place)}: no column '{missing[0]}'. It has: {', '.join(row)}.")
        label = _label(source, place, columns.label, row.get(columns.label))
        if label is None:
            if skip_unlabelled:
                continue
            raise BadData(
                f"{place_in(source, place)}: unlabelled (column '{columns.label}' is "
                f"{row.get(columns.label)!r}). Give every row a label, or leave such rows out with "
                "skip_unlabelled."
            )
        for name in columns.text:
            kept[name].append(checked_text(source, place, name, row[name]))
        kept[columns.label].append(label)
        places.append(place)
    if not places:
        raise BadData(f"{source} is empty: it has no labelled row.")
    return Table(source, columns, Dataset.from_dict(kept), places)


def checked_text(source: str, place: int, column: str, value: object) -> str:
    """The value of a column in one row, where it is text that can be written as UTF-8.

    Raises:
        BadData: It is not.
    """
    if not isinstance(value, str):
        raise BadData(f"{place_in(source, place)}: column '{column}' must be text, got {value!r:.60}.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadData(
            f"{place_in(source, place)}: column '{column}' holds half a surrogate pair: {value!r:.60}."
        ) from None
    return value


def _label(source: str, place: int, column: str, value: object) -> str | None:
    """The label as text, without spaces around it; None for a row that has none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadData(f"{place_in(source, place)}: label '{column}' must be text or a whole number, got {value!r:.60}.")
    label = checked_text(source, place, column, str(value)).strip()
    return None if not label or (column == "gold_label" and label == "-") else label


def place_in(source: str, place: int) -> str:
    """A line of a file, or a row of a data set of the Hub, for messages: `data/train.tsv, line 12`."""
    return f"{source}, {'row' if source.startswith('hub:') else 'line'} {place}"


def load_from_hub(source: str) -> Dataset:
    """The split of a data set that `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT` names, as `datasets` loads it.

    Raises:
        BadData: Another spelling, a data set that cannot be loaded, or one without a row.
    """
    parts = _HUB.fullmatch(source)
    if parts is None:
        raise BadData(
            f"Cannot read '{source}'. Write hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT, as in "
            "hub:nyu-mll/glue:mnli:validation_matched."
        )
    try:
        with no_progress_bars():
            data = load_dataset(parts["name"], parts["config"], split=parts["split"])
    except ConnectionError as error:
        raise BadData(
            f"Data set '{parts['name']}' is neither on this machine nor can the Hub be reached ({error}). "
            "Connect to the network, or give a local file."
        ) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise BadData(f"Cannot load '{source}' from the Hub: {error}") from error
    if not len(data):
        raise BadData(f"{source} is empty: it has no row of data.")
    return data


def _from_hub(source: str, text: tuple[str, ...] | None, label: str | None, skip_unlabelled: bool) -> Table:
    data = load_from_hub(source)
    columns = choose_columns(source, data.column_names, text, label)
    feature = data.features[columns.label]
    data = data.select_columns([*columns.text, columns.label])
    if not isinstance(feature, ClassLabel):
        return _table(source, columns, enumerate(data, start=1), skip_unlabelled)
    # -1 stands for "no label" in the data sets of the Hub, where labels are the indices of names.
    names: tuple[str, ...] = tuple(feature.names)
    rows = ({**row, columns.label: names[i] if (i := row[columns.label]) not in (-1, None) else None} for row in data)
    return replace(_table(source, columns, enumerate(rows, start=1), skip_unlabelled), stated=names)
