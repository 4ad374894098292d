"""Read rows with line numbers from local files: TSV, CSV or JSON lines, plain or gzip. Values stay as written.

The loaders of `datasets` are not used here. They guess types: a sentence `null` becomes a missing value, and a
sentence `12` a number. They fill short rows with missing values, and do not name the line of an error.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from headcount.errors import BadData

_OTHERS = {
    b"\x1f\x8b": "It is gzip: give it a name that ends in .gz",
    b"\xff\xfe": "It is UTF-16: convert the file to UTF-8",
    b"\xfe\xff": "It is UTF-16: convert the file to UTF-8",
}
"""The first bytes of files that are often mistaken for UTF-8 text, and the remedy."""

Row = tuple[int, Mapping[str, object]]
"""The first line of a row (from 1), and its values by column."""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a local file, each with its first line. Blank lines are skipped.

    Raises:
        BadData: The file is missing, has an unknown suffix, is broken gzip, UTF-8, CSV or JSON, or has a row
            with the wrong number of fields. The message has file and line.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    if not kind or kind[0] not in FORMATS:
        both = str(path).split(",")
        two = "Two text files are for translation: --task translation. " if _are_two_files(both) else ""
        raise BadData(
            f"Cannot tell what kind of file '{path}' is. {two}Give one that ends in {', '.join(FORMATS)}, or that "
            "with .gz; or a data set of the Hub as hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT."
        )
    if not path.is_file():
        raise BadData(
            f"No such file: '{path}'. A data set of the Hub is written hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT."
        )
    yield from FORMATS[kind[0]](path)


def _are_two_files(names: list[str]) -> bool:
    return len(names) == 2 and all(Path(name).is_file() for name in names)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file with their ends. They are decoded one by one, so that an error can name its line.

    A line ends at a line feed only. Other line ends of Unicode stay inside the line.

    Raises:
        BadData: The file is missing, or is broken gzip or UTF-8. The message has file and line.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        kind = next((kind for start, kind in _OTHERS.items() if number == 1 and error.object.startswith(start)), None)
        remedy = kind or "Convert the file to UTF-8"
        raise BadData(f"{path}, line {number}: not UTF-8 ({error.reason}). {remedy}.") from None
    except (EOFError, zlib.error, OSError) as error:
        raise BadData(f"{path}, after line {number}: cannot be read ({error}).") from error


def _tsv(path: Path) -> Iterator[Row]:
    """Yield rows of tab-separated values, without quoting. SST-2 has sentences with a single quotation mark."""
    fields = (
        (n, line.rstrip("\r\n").split("\t")) for n, line in enumerate(read_lines(path), start=1) if line.strip("\r\n")
    )
    yield from _with_header(path, fields, "tabs")


def _csv(path: Path) -> Iterator[Row]:
    """Yield rows of comma-separated values. Values with a comma, quotation mark or line end are quoted."""
    yield from _with_header(path, _csv_fields(path), "commas")


def _csv_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(read_lines(path), strict=True)
    begins = 1
    while True:
        begins = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            long = " Longer fields go into TSV or JSON lines." if "field larger" in str(error) else ""
            raise BadData(
                f"{path}, line {begins}: not valid CSV ({error}). Is a quotation mark left open?{long}"
            ) from None
        if fields:
            yield begins, fields


def _with_header(path: Path, rows: Iterator[tuple[int, list[str]]], separators: str) -> Iterator[Row]:
    header: list[str] = []
    for line, fields in rows:
        if not header:
            header = [name.strip() for name in fields]
            twice = {name for name in header if name and header.count(name) > 1}
            if twice:
                raise BadData(f"{path}, line {line}: two columns have the name '{min(twice)}'. Rename one.")
        elif len(fields) != len(header):
            raise BadData(
                f"{path}, line {line}: got {len(fields)} fields between {separators}, but the first line "
                f"names {len(header)} columns: {', '.join(header)}. Mend the line, or leave it out."
            )
        else:
            yield line, dict(zip(header, fields, strict=True))


def _json_lines(path: Path) -> Iterator[Row]:
    """Yield rows of JSON lines, which have one object per line."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadData(f"{path}, line {number}: not valid JSON ({error}). Each line must be one object.") from None
        if not isinstance(row, dict):
            got = "a list" if isinstance(row, list) else f"{row!r:.40}"
            raise BadData(
                f'{path}, line {number}: got {got}, but each line must be one JSON object: {{"text": …, "label": …}}.'
            )
        yield number, row


FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".json": _json_lines,
}
"""The readers by file suffix. Each file may also be gzip, with a further `.gz`."""
