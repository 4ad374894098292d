"""Read parallel text from files, from the Hub, or from sacrebleu's test sets."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.error import URLError

from headcount.data.labelled import checked_text, load_from_hub, place_in
from headcount.data.lines import FORMATS, Row, read_lines, read_rows
from headcount.errors import BadData

_TEST_SET = re.compile(r"sacrebleu:(?P<name>[^:]+):(?P<pair>[^:-]+-[^:-]+)")
_WITH_COLUMNS = tuple(suffix + gzip for suffix in FORMATS for gzip in ("", ".gz"))
_WITH_HEADER = (".tsv", ".csv", ".tsv.gz", ".csv.gz")
_LIKE_A_SENTENCE = re.compile(r"(\S+\s+){3}\S.*|.*[.!?…。！？]")

_Key = tuple[str, ...]
"""The place of a sentence in a row: a column, or the column `translation` and a language in it."""


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations, read from one source.

    Attributes:
        source: The files, file, data set or test set, as the user wrote it.
        sources: The sentences, in order and unchanged, but without the line end after them. A sentence may
            be empty.
        targets: The translation of each sentence.
        places: The place of each pair: its line in a file or its row in a data set, both from 1.
        file: The first file of two, which `where` names. None: `where` names the source.
    """

    source: str
    sources: list[str] = field(repr=False)
    targets: list[str] = field(repr=False)
    places: list[int] = field(repr=False)
    file: str | None = None

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        """Return the place of a pair for messages, such as `train.de.gz, line 12`."""
        return place_in(self.file or self.source, self.places[row])

    def take(self, rows: Sequence[int]) -> "Pairs":
        """Return these pairs only, in this order."""
        return replace(
            self,
            sources=[self.sources[row] for row in rows],
            targets=[self.targets[row] for row in rows],
            places=[self.places[row] for row in rows],
        )

    def without_empty(self) -> tuple["Pairs", int]:
        """Return the pairs with text on both sides, and the number of other pairs. White space is not text."""
        kept = [row for row in range(len(self)) if self.sources[row].strip() and self.targets[row].strip()]
        return self.take(kept), len(self) - len(kept)


def read_pairs(source: str, languages: tuple[str, str] | None = None, columns: tuple[str, str] | None = None) -> Pairs:
    """Read sentence pairs from files, a data set on the Hugging Face Hub, or a test set of sacrebleu.

    - `FILE,FILE`: two text files, plain or `.gz`. Line n of the second translates line n of the first. A line
      ends at a line feed only. `languages` and `columns` are ignored.
    - One file that ends in `.tsv`, `.csv`, `.jsonl` or `.json` (also JSON lines), optionally with `.gz`. TSV and
      CSV must name their columns in the first line.
    - `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT`, as in `hub:wmt/wmt14:de-en:test`.
    - `sacrebleu:TESTSET:SRC-TRG`, as in `sacrebleu:wmt19:en-de` or `sacrebleu:iwslt17:de-en`. Only the
      first reference is read. sacrebleu downloads a missing test set. `columns` are ignored.

    In a table or a Hub data set, the first rule that fits chooses the columns: (1) the given `columns`; (2) a column
    `translation` with sentences by language, `{"translation": {"de": …, "en": …}}`, which needs `languages`; (3) the
    columns named like the languages; (4) the only two columns, source first, if neither is named like a language.
    The case of languages is ignored.

    Args:
        source: The files, file, data set or test set.
        languages: The languages of source and target.
        columns: The columns of source and target.

    Raises:
        BadData: The data cannot be read. The message has file, line and remedy.
    """
    for what, given in (("languages", languages), ("columns", columns)):
        if given is not None and given[0] == given[1]:
            raise BadData(f"Got {what} {given[0]} and {given[1]}. Give two: that of the source, that of the target.")
    if source.startswith("sacrebleu:"):
        return _from_sacrebleu(source, languages)
    if source.startswith("hub:"):
        data = load_from_hub(source)
        keys = _choose(source, data[0], languages, columns)
        data = data.select_columns(sorted({key[0] for key in keys}))
        return _from_rows(source, enumerate(data, start=1), keys)
    there = Path(source).is_file()
    if "," in source and not there:
        first_file, second_file = _two_files(source)
        if tables := [name for name in (first_file, second_file) if name.lower().endswith(_WITH_COLUMNS)]:
            raise BadData(f"'{tables[0]}' is a table. Give one table with two columns, or two text files as FILE,FILE.")
        return replace(_side_by_side(source, first_file, second_file, "Mend the files."), file=first_file)
    if not there or not source.lower().endswith(_WITH_COLUMNS):
        raise BadData(
            f"{'Cannot tell what kind of file this is' if there else 'No such file'}: '{source}'. Give two text files "
            f"as FILE,FILE; or one file that ends in {', '.join(FORMATS)}, or that with .gz; or a data set of the Hub "
            "as hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT; or a test set as sacrebleu:TESTSET:SRC-TRG."
        )
    rows = iter(read_rows(Path(source)))
    first = next(rows, None)
    if first is None:
        raise BadData(f"{source} is empty: it has no row of data.")
    keys = _choose(source, first[1], languages, columns)
    return _from_rows(source, chain([first], rows), keys)


def _two_files(source: str) -> tuple[str, str]:
    """Split at a comma into two files. Of several commas, prefer one between two existing files."""
    ways = [(source[:i], source[i + 1 :]) for i, character in enumerate(source) if character == ","]
    there = [way for way in ways if all(Path(name).is_file() for name in way)]
    return (there or ways)[0]


def _side_by_side(source: str, first: str, second: str, remedy: str) -> Pairs:
    """Pair the lines of two files, which must have the same number of lines."""
    for name in (first, second):
        if not Path(name).is_file():
            raise BadData(f"No such file: '{name}'. Give two text files, plain or .gz, as FILE,FILE.")
    sources, targets = ([_without_end(line) for line in read_lines(Path(name))] for name in (first, second))
    if len(sources) != len(targets):
        raise BadData(
            f"Lines of {first}: {len(sources)}; lines of {second}: {len(targets)}. There must be as many in both, "
            f"line n of one the translation of line n of the other. {remedy}"
        )
    if not sources:
        raise BadData(f"{source} is empty: {first} and {second} have no line. {remedy}")
    return Pairs(source, sources, targets, list(range(1, len(sources) + 1)))


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line


def _choose(
    source: str, row: Mapping[str, object], languages: tuple[str, str] | None, columns: tuple[str, str] | None
) -> tuple[_Key, _Key]:
    """Choose the places of source and target in every row, from the first row."""
    present = list(row)
    for name in columns or ():
        if name not in present:
            raise BadData(f"{source} has no column '{name}'. Its columns: {', '.join(present)}.")
    if columns is not None:
        return (columns[0],), (columns[1],)
    if isinstance(nested := row.get("translation"), Mapping):
        there = list(nested)
        found = _of_languages(there, languages)
        if len(found) != 2:
            given = "none were given" if languages is None else f"got {', '.join(languages)}"
            raise BadData(
                f"Cannot tell which languages of {source} are source and target: {given}. Its languages: "
                f"{', '.join(there)}. Give two of these as languages, that of the source first."
            )
        return ("translation", found[0]), ("translation", found[1])
    found = _of_languages(present, languages)
    if not found and len(present) == 2:
        found = present
        _refuse_sentences(source, found)
    if len(found) != 2:
        header = " The first line must name them." if source.lower().endswith(_WITH_HEADER) else ""
        raise BadData(
            f"Cannot tell which columns of {source} are source and target. Its columns: {', '.join(present)}.{header} "
            "Give two of these as columns, or as languages where they are named so, that of the source first."
        )
    return (found[0],), (found[1],)


def _of_languages(names: Sequence[str], languages: tuple[str, str] | None) -> list[str]:
    """Return the spelling in `names` of each language. Missing languages are left out."""
    found: list[str] = []
    for language in languages or ():
        same = [name for name in names if name.lower() == language.lower()]
        found += [language] if language in same else same[:1]
    return list(dict.fromkeys(found))


def _refuse_sentences(source: str, header: Sequence[str]) -> None:
    """Refuse a header that looks like a sentence, because the file would silently lose its first pair."""
    for name in header:
        if source.lower().endswith(_WITH_HEADER) and _LIKE_A_SENTENCE.fullmatch(name):
            raise BadData(
                f"{source}, line 1: must name the columns, but '{name:.60}' reads like a sentence. Put a line with "
                "two names before it; or, if that is the name, give it in columns."
            )


def _from_rows(source: str, rows: Iterable[Row], keys: tuple[_Key, _Key]) -> Pairs:
    pairs = Pairs(source, [], [], [])
    for place, row in rows:
        pairs.sources.append(_sentence(source, place, row, keys[0]))
        pairs.targets.append(_sentence(source, place, row, keys[1]))
        pairs.places.append(place)
    return pairs


def _sentence(source: str, place: int, row: Mapping[str, object], key: _Key) -> str:
    value: Any = row
    for depth, name in enumerate(key):
        if not isinstance(value, Mapping):
            raise BadData(
                f"{place_in(source, place)}: column '{key[0]}' must hold sentences by language, got {value!r:.60}."
            )
        if name not in value:
            what = "language" if depth else "column"
            raise BadData(f"{place_in(source, place)}: no {what} '{name}'. It has: {', '.join(value)}.")
        value = value[name]
    return _without_end(checked_text(source, place, ".".join(key), value))


def _from_sacrebleu(source: str, languages: tuple[str, str] | None) -> Pairs:
    parts = _TEST_SET.fullmatch(source)
    if parts is None:
        raise BadData(f"Cannot read '{source}'. Write sacrebleu:TESTSET:SRC-TRG, as in sacrebleu:wmt19:en-de.")
    from sacrebleu import utils  # imported here, because the import looks for a cache

    name, pair = parts["name"], parts["pair"]
    if name not in utils.DATASETS:
        close = get_close_matches(name, utils.DATASETS, n=5)
        listed = f"Close to it: {', '.join(close)}" if close else f"It has: {', '.join(utils.DATASETS)}"
        raise BadData(f"sacrebleu has no test set '{name}'. {listed}.")
    pairs = utils.get_langpairs_for_testset(name)
    if pair not in pairs:
        raise BadData(f"sacrebleu's test set '{name}' has no pair '{pair}'. Its pairs: {', '.join(pairs)}.")
    if languages is not None and pair.lower() != "-".join(languages).lower():
        raise BadData(f"{source} is {pair}, but the languages are {' and '.join(languages)}. Make one fit the other.")
    folder = Path(utils.SACREBLEU_DIR) / name
    remedy = f"Delete the folder '{folder}', and sacrebleu fetches it anew."
    try:
        first, second = utils.get_source_file(name, pair), utils.get_reference_files(name, pair)[0]
    except (URLError, ConnectionError, TimeoutError) as error:
        raise BadData(
            f"Test set '{name}' is neither on this machine nor can it be fetched ({error}). Connect to the network, "
            f"or copy the folder '{folder}' from a machine that has it."
        ) from error
    except (Exception, SystemExit) as error:  # it raises plain Exception, and SystemExit for a wrong checksum
        why = "wrong checksum, or no safe connection" if isinstance(error, SystemExit) else repr(error)
        raise BadData(f"sacrebleu cannot prepare test set '{name}' ({why}). {remedy}") from error
    return _side_by_side(source, first, second, remedy)
