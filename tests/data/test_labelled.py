"""Reading examples: kinds of file, values that stay as written, columns guessed or given, every bad input."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from headcount.data.labelled import Table, read_table
from headcount.errors import BadData

ROWS = [("a fine day", "good"), ("nan", "bad"), ('he said "no', "bad")]


def put(path: Path, content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def pairs_of(table: Table) -> list[tuple[str, ...]]:
    return list(zip(*(table.rows[name] for name in [*table.columns.text, table.columns.label]), strict=True))


def json_lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {
    ".tsv": "sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS),
    ".csv": 'sentence,label\na fine day,good\nnan,bad\n"he said ""no",bad\n',
    ".jsonl": json_lines(*({"sentence": text, "label": label} for text, label in ROWS)),
    ".json": json_lines(*({"sentence": text, "label": label} for text, label in ROWS)),
}


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("suffix", FILES)
def test_every_kind_of_file(suffix: str, gz: str, tmp_path: Path) -> None:
    source = put(tmp_path / f"data{suffix}{gz}", FILES[suffix])
    table = read_table(source)
    assert pairs_of(table) == ROWS
    assert len(table) == 3
    first = 1 if suffix.startswith(".json") else 2
    assert table.where(2) == f"{source}, line {first + 2}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"data{suffix}{gz}"]


def test_values_stay_as_written(tmp_path: Path) -> None:
    values = ["null", "nan", "NA", "12", "1.0", "true", "", "-inf", "  spaced "]
    for suffix, cut in ((".tsv", "\t"), (".csv", ",")):
        text = f"text{cut}label\n" + "".join(f"{value}{cut}{i % 2}\n" for i, value in enumerate(values))
        table = read_table(put(tmp_path / f"data{suffix}", text))
        assert list(table.rows["text"]) == values
        assert table.labels == ["0", "1"] * 4 + ["0"]


def test_whole_numbers_in_json_are_labels_as_text(tmp_path: Path) -> None:
    source = put(tmp_path / "a.jsonl", json_lines({"text": "x", "label": 0}, {"text": "y", "label": 10}))
    assert read_table(source).labels == ["0", "10"]


def test_line_numbers_pass_blank_lines_and_quoted_line_ends(tmp_path: Path) -> None:
    source = put(tmp_path / "a.csv", '\ufefftext,label\r\n"two\nlines",x\r\n\r\nlast,y\r\n')
    table = read_table(source)
    assert pairs_of(table) == [("two\nlines", "x"), ("last", "y")]
    assert table.places == [2, 5]
    source = put(tmp_path / "a.jsonl", '\n{"text": "a", "label": "x"}\n\n')
    assert read_table(source).places == [2]


def test_take_keeps_places(tmp_path: Path) -> None:
    table = read_table(put(tmp_path / "a.tsv", FILES[".tsv"])).take([2, 0])
    assert pairs_of(table) == [ROWS[2], ROWS[0]]
    assert table.where(0).endswith("line 4")


@pytest.mark.parametrize(
    ("header", "text", "label"),
    [
        ("premise hypothesis label source", ("premise", "hypothesis"), "label"),
        ("index sentence1 sentence2 label1 gold_label", ("sentence1", "sentence2"), "gold_label"),
        ("Sentence Class", ("Sentence",), "Class"),
        ("question sentence label", ("question", "sentence"), "label"),
        ("id question1 question2 target", ("question1", "question2"), "target"),
        ("text_b text_a category", ("text_a", "text_b"), "category"),
        ("question context labels", ("question", "context"), "labels"),
        ("review label", ("review",), "label"),
    ],
)
def test_columns_are_guessed(header: str, text: tuple[str, ...], label: str, tmp_path: Path) -> None:
    names = header.split()
    source = put(tmp_path / "a.tsv", "\t".join(names) + "\n" + "\t".join(f"<{name}>" for name in names) + "\n")
    table = read_table(source)
    assert table.columns == (text, label)
    assert pairs_of(table) == [tuple(f"<{name}>" for name in [*text, label])]
    assert table.rows.column_names == [*text, label]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("premise hypothesis text label", "premise, hypothesis, text"),
        ("sentence text label", "sentence, text"),
        ("question sentence context label", "question, sentence, context"),
        ("Text text label", "Text, text"),
        ("utterance label", "none has a name known for text"),
        ("text label class", "label, class"),
        ("text gold", "none has a name known for labels"),
    ],
)
def test_columns_are_not_guessed_when_unclear(header: str, says: str, tmp_path: Path) -> None:
    names = header.split()
    source = put(tmp_path / "a.tsv", "\t".join(names) + "\n" + "\t".join(names) + "\n")
    with pytest.raises(BadData, match=f"{says}.*Its columns: {', '.join(names)}.*--"):
        read_table(source)


def test_columns_are_given(tmp_path: Path) -> None:
    source = put(tmp_path / "a.csv", "text,text2,gold,label\nA,B,x,1\n")
    table = read_table(source, text=("text2", "text"), label="gold")
    assert pairs_of(table) == [("B", "A", "x")]
    with pytest.raises(BadData, match=r"no column 'txt'\. Its columns: text, text2, gold, label"):
        read_table(source, text=("txt",))
    with pytest.raises(BadData, match=r"no column 'golden'\. Its columns"):
        read_table(source, label="golden")


GOOD = json_lines({"text": "a", "label": "x"})
BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("a.tsv", "", r"a\.tsv is empty"),
    "header only": ("a.csv", "text,label\n", r"a\.csv is empty"),
    "no JSON line": ("a.jsonl", "\n\n", r"a\.jsonl is empty"),
    "too few fields": ("a.tsv", "text\tlabel\na\tx\nb\n", "line 3: got 1 fields.*2 columns: text, label"),
    "too many fields": ("a.csv", "text,label\na, b,x\n", "line 2: got 3 fields.*between commas"),
    "open quotation mark": ("a.csv", 'text,label\na,x\n"b,y\n', "line 3: not valid CSV.*left open"),
    "column twice": ("a.tsv", "text\ttext\tlabel\na\tb\tx\n", "line 1: two columns have the name 'text'"),
    "broken JSON": ("a.jsonl", GOOD + '{"text": "b", \n', "line 2: not valid JSON"),
    "deep JSON": ("a.jsonl", "[" * 100_000, "line 1: not valid JSON"),
    "JSON array": ("a.json", '[{"text": "a", "label": "x"}]', "line 1: got a list.*one JSON object"),
    "JSON number": ("a.jsonl", GOOD + "12\n", "line 2: got 12.*one JSON object"),
    "text missing": ("a.jsonl", GOOD + '{"label": "x"}\n', "line 2: no column 'text'. It has: label"),
    "text null": ("a.jsonl", GOOD + '{"text": null, "label": "x"}\n', "line 2: .*must be text, got None"),
    "text a number": ("a.jsonl", '{"text": 3, "label": "x"}\n', "line 1: column 'text' must be text, got 3"),
    "half a pair": ("a.jsonl", '{"text": "\\ud800", "label": "x"}\n', "line 1: .*half a surrogate pair"),
    "label missing": ("a.jsonl", GOOD + '{"text": "b"}\n', "line 2: unlabelled.*None"),
    "label null": ("a.jsonl", GOOD + '{"text": "b", "label": null}\n', "line 2: unlabelled.*None"),
    "label empty": ("a.tsv", "text\tlabel\na\tx\nb\t\n", "line 3: unlabelled.*''.*skip_unlabelled"),
    "label fractional": (
        "a.jsonl",
        '{"text": "b", "label": 0.5}\n',
        "line 1: label 'label' must be text or a whole",
    ),
    "label boolean": ("a.jsonl", '{"text": "b", "label": true}\n', "line 1: label .* got True"),
    "not UTF-8": ("a.tsv", b"text\tlabel\na\tx\n\xff\ty\n", "line 3: not UTF-8"),
    "not UTF-8, gzip": ("a.jsonl.gz", GOOD.encode() + b'{"text": "\xe9"}\n', "line 2: not UTF-8"),
    "unknown suffix": ("a.txt", "text\n", r"Cannot tell what kind.*\.tsv, \.csv, \.jsonl, \.json.*hub:NAME"),
    "gzip of something": ("tsv.gz", "text\n", "Cannot tell what kind"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named(case: str, tmp_path: Path) -> None:
    name, content, says = BAD_FILES[case]
    with pytest.raises(BadData, match=f"(?s){says}") as caught:
        read_table(put(tmp_path / name, content))
    assert str(tmp_path / name) in str(caught.value)


def test_broken_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(FILES[".tsv"].encode() * 99)
    for name, content in (("cut.tsv.gz", whole[:-20]), ("plain.tsv.gz", b"text\tlabel\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match=f"{name}, after line .*cannot be read"):
            read_table(str(tmp_path / name))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"No such file: '.*none\.tsv'.*hub:NAME:SPLIT"):
        read_table(str(tmp_path / "none.tsv"))


def test_unlabelled_rows_can_be_left_out(tmp_path: Path) -> None:
    source = put(tmp_path / "a.tsv", "sentence1\tsentence2\tgold_label\na\tb\t-\nc\td\tx\ne\tf\t\n")
    with pytest.raises(BadData, match=r"line 2: unlabelled.*'-'"):
        read_table(source)
    table = read_table(source, skip_unlabelled=True)
    assert (pairs_of(table), table.places) == ([("c", "d", "x")], [3])
    nothing = put(tmp_path / "b.tsv", "text\tgold_label\na\t-\n")
    with pytest.raises(BadData, match="no labelled row"):
        read_table(nothing, skip_unlabelled=True)
    signs = put(tmp_path / "c.tsv", "text\tlabel\na\t-\nb\t+\n")
    assert read_table(signs).labels == ["-", "+"]


@pytest.fixture
def hub_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set in a directory, read as one of the Hub: its labels are numbers of names."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["pos", "neg"]),
            "idx": datasets.Value("int32"),
        }
    )
    rows = {"text": ["a", "null", "c"], "label": [1, 0, -1], "idx": [0, 1, 2]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    return f"hub:{tmp_path / 'set'}"


def test_data_set_of_the_hub(hub_like: str) -> None:
    table = read_table(f"{hub_like}:train[:2]")
    assert pairs_of(table) == [("a", "neg"), ("null", "pos")]
    assert table.stated == ("pos", "neg")
    assert table.where(1) == f"{hub_like}:train[:2], row 2"
    with pytest.raises(BadData, match="row 3: unlabelled"):
        read_table(f"{hub_like}:train")
    assert read_table(f"{hub_like}:train", skip_unlabelled=True).labels == ["neg", "pos"]
    numbers = read_table(f"{hub_like}:train", label="idx")
    assert (numbers.labels, numbers.stated) == (["0", "1", "2"], None)
    with pytest.raises(BadData, match=r"has no column 'gold'\. Its columns: text, label, idx"):
        read_table(f"{hub_like}:train", label="gold")


def test_bad_data_sets_of_the_hub(hub_like: str) -> None:
    with pytest.raises(BadData, match=r"(?s)Cannot load '.*:test' from the Hub: .*train"):
        read_table(f"{hub_like}:test")
    with pytest.raises(BadData, match="'nyu-mll/glue' is neither on this machine nor can the Hub be reached"):
        read_table("hub:nyu-mll/glue:mnli:validation_matched")
    for source in ("hub:name", "hub::train", "hub:a:b:c:d"):
        with pytest.raises(BadData, match="Write hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT"):
            read_table(source)


def test_progress_bars_are_put_back(hub_like: str) -> None:
    before = datasets.are_progress_bars_disabled()
    for state in (True, False):
        (datasets.disable_progress_bars if state else datasets.enable_progress_bars)()
        read_table(f"{hub_like}:train[:1]")
        assert datasets.are_progress_bars_disabled() is state
    (datasets.disable_progress_bars if before else datasets.enable_progress_bars)()
