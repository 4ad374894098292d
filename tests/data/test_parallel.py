"""Reading parallel text from files: two of lines, or one of columns; lines as they stand, every bad input."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import PAIRS, pairs_of, put

from headcount.data.parallel import Pairs, read_pairs
from headcount.errors import BadData

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
# What str.splitlines takes for a line end, and other marks that a reader may trip over.
ODD = "a b\t\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\u3000\x00\ufeff\",'"
SENTENCES = st.one_of(st.text(max_size=12), st.text(ODD, max_size=8)).map(lambda text: text.replace("\n", " "))


def written(suffix: str, rows: list[tuple[str, str]], names: tuple[str, str] = ("de", "en")) -> str:
    """Rows of two columns as the text of a file of that kind."""
    if suffix.startswith(".json"):
        return "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    if suffix == ".tsv":
        return "".join("\t".join(row) + "\n" for row in [names, *rows])
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    return file.getvalue()


@given(
    rows=st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6),
    ends=st.tuples(*[st.sampled_from(["\n", "\r\n"])] * 2),
    suffixes=st.tuples(*[st.sampled_from([".txt", ".gz"])] * 2),
    closed=st.booleans(),
    marked=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_two_files_give_back_what_was_written(
    rows: list[tuple[str, str]],
    ends: tuple[str, str],
    suffixes: tuple[str, str],
    closed: bool,
    marked: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # A carriage return before the line feed is part of the line end.
    rows = [(left.rstrip("\r"), right.rstrip("\r")) for left, right in rows]
    directory = tmp_path_factory.mktemp("two")
    names = []
    for side, (end, suffix) in enumerate(zip(ends, suffixes, strict=True)):
        text = end.join(row[side] for row in rows) + (end if closed or not rows[-1][side] else "")
        mark = "\ufeff" if marked or text.startswith("\ufeff") else ""
        names.append(put(directory / f"{side}{suffix}", mark + text))
    pairs = read_pairs(",".join(names))
    assert pairs_of(pairs) == rows
    assert pairs.places == list(range(1, len(rows) + 1))


@given(
    rows=st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6),
    suffix=st.sampled_from(SUFFIXES),
    gz=st.sampled_from(["", ".gz"]),
    turned=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_one_file_gives_back_what_was_written(
    rows: list[tuple[str, str]], suffix: str, gz: str, turned: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if suffix == ".tsv":  # which has no way to write these
        rows = [(left.replace("\t", " "), right.replace("\t", " ").rstrip("\r")) for left, right in rows]
    source = put(tmp_path_factory.mktemp("one") / f"a{suffix}{gz}", written(suffix, rows))
    pairs = read_pairs(source, languages=("en", "de") if turned else ("de", "en"))
    assert pairs_of(pairs) == [row[::-1] if turned else row for row in rows]


@given(
    rows=st.lists(st.tuples(SENTENCES, SENTENCES), max_size=8),
    picks=st.lists(st.integers(0, 7), max_size=8),
)
def test_take_and_without_empty(rows: list[tuple[str, str]], picks: list[int]) -> None:
    pairs = Pairs("a.tsv", [row[0] for row in rows], [row[1] for row in rows], list(range(2, len(rows) + 2)))
    picks = [pick for pick in picks if pick < len(rows)]
    taken = pairs.take(picks)
    assert pairs_of(taken) == [rows[pick] for pick in picks]
    assert [taken.where(i) for i in range(len(taken))] == [f"a.tsv, line {pick + 2}" for pick in picks]
    full, dropped = pairs.without_empty()
    assert len(full) + dropped == len(pairs)
    assert pairs_of(full) == [row for row in rows if not (row[0].isspace() or row[1].isspace()) and all(row)]
    assert full.without_empty() == (full, 0)


def test_where_names_the_first_of_two_files(tmp_path: Path) -> None:
    first, second = put(tmp_path / "a.de.gz", "eins\n\nzwei\n"), put(tmp_path / "a.en", "one\r\n \r\ntwo")
    pairs = read_pairs(f"{first},{second}", languages=("de", "en"))
    assert pairs == Pairs(f"{first},{second}", ["eins", "", "zwei"], ["one", " ", "two"], [1, 2, 3], file=first)
    full, dropped = pairs.without_empty()
    assert (pairs_of(full), dropped) == ([("eins", "one"), ("zwei", "two")], 1)
    assert full.where(1) == f"{first}, line 3"


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    lines = ["a\u2028b", "c\x0bd\x85e", "f\rg\r\r", "\x1ch\x0c"]
    first = put(tmp_path / "a.de", "".join(f"{line}\n" for line in lines))
    second = put(tmp_path / "a.en", "1\n2\n3\n4\n")
    # Of the carriage returns the last one belongs to the line end.
    assert read_pairs(f"{first},{second}").sources == [lines[0], lines[1], "f\rg\r", lines[3]]


def test_commas_in_file_names(tmp_path: Path) -> None:
    one = put(tmp_path / "a,b.tsv", written(".tsv", PAIRS))
    assert pairs_of(read_pairs(one)) == PAIRS
    first, second = put(tmp_path / "x,y.de", "eins\n"), put(tmp_path / "x,y.en", "one\n")
    assert pairs_of(read_pairs(f"{first},{second}")) == [("eins", "one")]
    kind = put(tmp_path / "x.de,y.en", "eins\n")
    with pytest.raises(BadData, match=r"Cannot tell what kind of file this is: '.*x\.de,y\.en'"):
        read_pairs(kind)


BAD_TWO: dict[str, tuple[tuple[str, str | bytes | None], tuple[str, str | bytes | None], str]] = {
    "more lines": (("a.de", "eins\nzwei\n"), ("a.en.gz", "one\n"), r"Lines of .*a\.de: 2; lines of .*a\.en\.gz: 1\."),
    "a line torn": (("a.de", "eins"), ("a.en", "one\n\n"), r"a\.de: 1; lines of .*a\.en: 2.* line n.*Mend the files"),
    "empty": (("a.de", ""), ("a.en", ""), r"a\.de,.*a\.en is empty: .*a\.de and .*a\.en have no line"),
    "first missing": (("a.de", None), ("a.en", "one\n"), r"No such file: '.*a\.de'.*as FILE,FILE"),
    "second missing": (("a.de", "eins\n"), ("a.en", None), r"No such file: '.*a\.en'.*as FILE,FILE"),
    "not UTF-8": (
        ("a.de", "eins\n"),
        ("a.en", b"one\n\xff\n"),
        r"a\.en, line 2: not UTF-8 .*Convert the file to UTF-8",
    ),
    "gzip by another name": (
        ("a.de", b"\x1f\x8b\x08"),
        ("a.en", "one\n"),
        r"line 1: not UTF-8 .*name that ends in \.gz",
    ),
    "UTF-16": (("a.de", "eins\n"), ("a.en", "one\n".encode("utf-16")), r"a\.en, line 1: .*It is UTF-16: convert"),
    "tables": (("a.tsv", "de\ten\n"), ("b.jsonl", "{}\n"), r"a\.tsv' is a table\. Give one table with two columns"),
    "not UTF-8, gzip": (("a.gz", b"\xe9"), ("a.en", "one\n"), r"a\.gz, line 1: not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_TWO)
def test_bad_pairs_of_files_are_named(case: str, tmp_path: Path) -> None:
    first, second, says = BAD_TWO[case]
    for name, content in (first, second):
        if content is not None:
            put(tmp_path / name, content)
    with pytest.raises(BadData, match=says):
        read_pairs(f"{tmp_path / first[0]},{tmp_path / second[0]}")


def test_broken_gzip(tmp_path: Path) -> None:
    second = put(tmp_path / "a.en", "one\n")
    for name, content in (("cut.gz", gzip.compress(b"eins\n" * 99)[:-9]), ("plain.gz", b"eins\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match=rf"{name}, after line \d+: cannot be read"):
            read_pairs(f"{tmp_path / name},{second}")


@pytest.mark.parametrize("source", ["none", "none.tsv", "", "hub", "http://a.b/c.tsv"])
def test_missing_files_and_other_sources(source: str) -> None:
    with pytest.raises(
        BadData, match=rf"No such file: '{source}'.*FILE,FILE;.*\.tsv, \.csv, \.jsonl, \.json,.*hub:NAME:S.*sacrebleu:T"
    ):
        read_pairs(source)


def test_one_text_file_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"Cannot tell what kind of file this is: '.*a\.de'.*FILE,FILE"):
        read_pairs(put(tmp_path / "a.de", "eins\n"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_of_one_file(suffix: str, tmp_path: Path) -> None:
    turned = [row[::-1] for row in PAIRS]
    source = put(tmp_path / f"a{suffix}", written(suffix, PAIRS, ("DE", "en")))
    assert pairs_of(read_pairs(source)) == PAIRS
    assert pairs_of(read_pairs(source, languages=("de", "EN"))) == PAIRS
    assert pairs_of(read_pairs(source, languages=("en", "de"))) == turned
    assert pairs_of(read_pairs(source, columns=("en", "DE"))) == turned
    assert pairs_of(read_pairs(source, ("de", "en"), columns=("en", "DE"))) == turned
    assert read_pairs(source).where(1) == f"{source}, line {2 if suffix.startswith('.json') else 3}"
    # Two columns with names of another kind are taken as they stand.
    source = put(tmp_path / f"b{suffix}", written(suffix, PAIRS, ("source", "target")))
    assert pairs_of(read_pairs(source, languages=("en", "de"))) == PAIRS


def test_three_columns_need_names(tmp_path: Path) -> None:
    source = put(tmp_path / "a.csv", "id,en,de\n1,one,eins\n")
    assert pairs_of(read_pairs(source, languages=("de", "en"))) == [("eins", "one")]
    assert pairs_of(read_pairs(source, columns=("en", "id"))) == [("one", "1")]
    says = "Cannot tell which columns .* Its columns: id, en, de. The first line must name them. .* as columns, or as"
    for languages in (None, ("de", "fr"), ("fr", "cs")):
        with pytest.raises(BadData, match=says):
            read_pairs(source, languages=languages)
    with pytest.raises(BadData, match=r"a\.csv has no column 'fr'. Its columns: id, en, de\."):
        read_pairs(source, columns=("de", "fr"))


def test_a_column_is_not_taken_for_another_language(tmp_path: Path) -> None:
    source = put(tmp_path / "a.jsonl", '{"en": "one", "german": "eins"}\n')
    assert pairs_of(read_pairs(source)) == [("one", "eins")]
    with pytest.raises(BadData, match=r"Cannot tell which columns .* Its columns: en, german\. Give two"):
        read_pairs(source, languages=("de", "en"))
    same = put(tmp_path / "b.tsv", "de\ten\neins\tone\n")
    with pytest.raises(BadData, match="Cannot tell which columns"):
        read_pairs(same, languages=("de", "DE"))


@pytest.mark.parametrize("header", ["Ein Hund\tA dog runs.", "Guten Tag!\tHello", "你好。\tHello", "x\tit is a dog"])
def test_a_sentence_is_no_header(header: str, tmp_path: Path) -> None:
    source = put(tmp_path / "a.tsv", f"{header}\neins\tone\n")
    with pytest.raises(BadData, match=r"a\.tsv, line 1: must name the columns, but '.*' reads like a sentence\. Put"):
        read_pairs(source)
    left, right = header.split("\t")
    assert pairs_of(read_pairs(source, columns=(left, right))) == [("eins", "one")]
    named = put(tmp_path / "b.tsv", "source text\ttarget text (de)\none\teins\n")
    assert len(read_pairs(named)) == 1


def test_translations_by_language(tmp_path: Path) -> None:
    rows = [{"id": i, "translation": {"de": de, "en": en, "fr": None}} for i, (de, en) in enumerate(PAIRS)]
    source = put(tmp_path / "a.jsonl.gz", "".join(json.dumps(row) + "\n" for row in rows))
    assert pairs_of(read_pairs(source, languages=("DE", "en"))) == PAIRS
    with pytest.raises(BadData, match="none were given. Its languages: de, en, fr. Give two of these as languages"):
        read_pairs(source)
    with pytest.raises(BadData, match=r"Cannot tell which languages of .*: got de, cs\. Its languages: de, en, fr\."):
        read_pairs(source, languages=("de", "cs"))
    with pytest.raises(BadData, match=r"line 1: column 'translation\.fr' must be text, got None"):
        read_pairs(source, languages=("de", "fr"))
    # A column of text with that name is a column like others.
    plain = put(tmp_path / "b.jsonl", '{"text": "eins", "translation": "one"}\n')
    assert pairs_of(read_pairs(plain)) == [("eins", "one")]


def test_values_lose_the_line_end_after_them_only(tmp_path: Path) -> None:
    source = put(tmp_path / "a.jsonl", json.dumps({"de": " a\nb\r\n", "en": "c\n\n"}) + "\n")
    assert pairs_of(read_pairs(source)) == [(" a\nb", "c\n")]
    source = put(tmp_path / "b.jsonl", json.dumps({"de": "a\r", "en": "\n"}) + "\n")
    assert pairs_of(read_pairs(source)) == [("a\r", "")]


GOOD = '{"de": "eins", "en": "one"}\n'
TWO = '{"translation": {"de": "eins", "en": "one"}}\n'
BAD_ONE: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.tsv", "", r"a\.tsv is empty: it has no row of data"),
    "header only": ("a.csv", "de,en\n", r"a\.csv is empty: it has no row of data"),
    "one column": ("a.tsv", "de\neins\n", "Its columns: de. The first line must name them"),
    "too many fields": ("a.tsv", "de\ten\neins\tone\ttwo\n", "line 2: got 3 fields"),
    "a header twice": ("a.tsv", "de\tde\neins\tone\n", "line 1: two columns have the name 'de'"),
    "broken JSON": ("a.jsonl", GOOD + '{"de": \n', "line 2: not valid JSON"),
    "column missing": ("a.jsonl", GOOD + '{"de": "zwei", "es": "dos"}\n', "line 2: no column 'en'. It has: de, es"),
    "null": ("a.jsonl", GOOD + '{"de": null, "en": "two"}\n', "line 2: column 'de' must be text, got None"),
    "number": ("a.jsonl", '{"de": "zwei", "en": 2}\n', "line 1: column 'en' must be text, got 2"),
    "half a pair": ("a.jsonl", '{"de": "\\ud800", "en": "x"}\n', "line 1: column 'de' holds half a surrogate pair"),
    "language missing": ("a.jsonl", TWO + '{"translation": {"de": "zwei"}}\n', "2: no language 'en'. It has: de"),
    "no translations": (
        "a.jsonl",
        TWO + '{"translation": "two"}\n',
        "line 2: column 'translation' must hold sentences by language, got 'two'",
    ),
    "not UTF-8": ("a.tsv.gz", b"de\ten\n\xff\tone\n", "line 2: not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_ONE)
def test_bad_files_are_named(case: str, tmp_path: Path) -> None:
    name, content, says = BAD_ONE[case]
    with pytest.raises(BadData, match=says) as caught:
        read_pairs(put(tmp_path / name, content), languages=("de", "en"))
    assert str(tmp_path / name) in str(caught.value)


def test_source_and_target_differ(tmp_path: Path) -> None:
    source = put(tmp_path / "a.tsv", written(".tsv", PAIRS))
    with pytest.raises(BadData, match="Got languages de and de. Give two: that of the source, that of the target"):
        read_pairs(source, languages=("de", "de"))
    with pytest.raises(BadData, match="Got columns en and en. Give two"):
        read_pairs(source, columns=("en", "en"))
