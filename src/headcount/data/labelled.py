"""Tables of labelled examples, read from files or the Hub. Every row keeps its place in the source."""

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
        source: The file or Hub data set, as the user wrote it.
        columns: The text columns, one or two, and the label column.
        rows: The values of these columns in every row, as text.
        places: The place of each row: its line in a file or its row in a data set, both from 1.
        stated: The labels in the order that the source states (`ClassLabel` of a data set). None: no stated order.
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
        """Return the label of every row."""
        return list(self.rows[self.columns.label])

    def where(self, row: int) -> str:
        """Return the place of a row for messages, such as `data/train.tsv, line 12`."""
        return place_in(self.source, self.places[row])

    def take(self, rows: Sequence[int]) -> "Table":
        """Return a table of these rows only, in this order."""
        picked = self.rows.select(rows, keep_in_memory=True)
        return replace(self, rows=picked, places=[self.places[row] for row in rows])


def read_table(
    source: str,
    text: tuple[str, ...] | None = None,
    label: str | None = None,
    skip_unlabelled: bool = False,
) -> Table:
    """Read labelled examples from a local file or a data set on the Hugging Face Hub.

    A file ends in `.tsv`, `.csv`, `.jsonl` or `.json` (also JSON lines), optionally with `.gz`. TSV and CSV
    name their columns in the first line. TSV has no quoting. Values are not converted: a sentence `nan` stays a
    sentence, and an integer label becomes its digits. A data set on the Hub is `hub:NAME:SPLIT` or
    `hub:NAME:CONFIG:SPLIT`, as in `hub:nyu-mll/glue:mnli:validation_matched`. A split can be sliced:
    `train[:1000]`. `datasets.load_dataset` loads and caches data sets of the Hub. Files are not cached.

    Args:
        source: The file or data set.
        text: One text column, or two for pairs. None: `choose_columns` guesses from the names.
        label: The label column. None: `choose_columns` guesses.
        skip_unlabelled: Whether to skip rows without a label instead of refusing the table. Such a label is
            empty, missing, -1 in a data set of the Hub, or `-` in a column `gold_label` (in SNLI, the
            annotators did not agree).

    Raises:
        BadData: The data cannot be read. The message has file, line and remedy.
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
    """Check and collect the text and label columns. The other columns are dropped."""
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
    """Return a value if it is text that UTF-8 can encode.

    Raises:
        BadData: The value is not such text.
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
    """Return the label as text without surrounding spaces, or None if the row has none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadData(f"{place_in(source, place)}: label '{column}' must be text or a whole number, got {value!r:.60}.")
    label = checked_text(source, place, column, str(value)).strip()
    return None if not label or (column == "gold_label" and label == "-") else label


def place_in(source: str, place: int) -> str:
    """Name a line of a file or a row of a Hub data set for messages, such as `data/train.tsv, line 12`."""
    return f"{source}, {'row' if source.startswith('hub:') else 'line'} {place}"


def load_from_hub(source: str) -> Dataset:
    """Load a split of a data set, named as `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT`.

    Raises:
        BadData: The name has another form, or the data set cannot be loaded or has no rows.
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
    # In data sets of the Hub, labels are indices of names, and -1 means "no label".
    names: tuple[str, ...] = tuple(feature.names)
    rows = ({**row, columns.label: names[i] if (i := row[columns.label]) not in (-1, None) else None} for row in data)
    return replace(_table(source, columns, enumerate(rows, start=1), skip_unlabelled), stated=names)
