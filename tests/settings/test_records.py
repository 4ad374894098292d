"""Records: written whole or not at all, read back the same, found wherever they lie; what is damaged is named."""

import json
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from headcount.errors import CorruptRecord
from headcount.settings.records import FORMAT_VERSION, RECORD_NAME, Record, read_record, read_records
from processes import headcount

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def record(name: str = "a", **changes: object) -> Record:
    made = Record(
        signature=f"method:michel|keep:2/8|name:{name}",
        recipe={"method": "michel", "model": "m", "keep": 2, "seed": 0, "options": {"examples": 5},
                "training": {"lr": 0.1}, "data": {"train": "t"}, "task": "classification"},
        subset={"layer.0": [1], "layer.1": [3]},
        heads="1 1",
        metrics={"accuracy": 0.5},
        sites=[{"name": f"layer.{i}", "kind": "encoder", "layer": i, "heads": 4} for i in range(2)],
        name=name,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_there_and_back(tmp_path: Path) -> None:
    record().write(tmp_path / RECORD_NAME)
    assert read_record(tmp_path / RECORD_NAME) == record()
    assert (record().kept, record().total) == (2, 8)
    assert record(error="no memory").row()["kept"] is None  # it is not a model without heads


def test_records_are_found_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "runs" / "b").mkdir(parents=True)
    record("").write(tmp_path / "runs" / "b" / RECORD_NAME)  # made alone: its directory names it
    (tmp_path / "runs" / "b" / "config.json").write_text("{}")
    (tmp_path / "runs" / "c.checkpoints").mkdir()
    record("c").write(tmp_path / "runs" / "c.checkpoints" / RECORD_NAME)  # of a run under way
    (tmp_path / "failed").mkdir()
    record("d", error="no memory", metrics={}).write(tmp_path / "failed" / "d.json")
    lines = [json.dumps(record(name).to_json()) for name in ("e", "f", "d")]
    (tmp_path / "list.jsonl").write_text("\n".join(lines) + "\n")
    found, problems = read_records(tmp_path)
    assert [each.name for each in found] == ["d", "e", "f", "d", "b"] and problems == []
    assert [each.name for each in read_records(tmp_path / "list.jsonl", tmp_path)[0]] == ["e", "f", "d", "d", "b"]


def test_records_of_one_name_are_shown_unless_they_are_the_same(tmp_path: Path) -> None:
    """The signature does not have everything; a list for others lacks paths, and was made before the speed was."""
    far = record(recipe={**record().recipe, "model": "/home/a/models/m"})
    other = record(recipe={**record().recipe, "training": {"lr": 0.1, "max_grad_norm": 2.0}})
    for place, each in {"a": far, "b": replace(far.portable(), speed={"speedup": 1.0}), "c": other}.items():
        (tmp_path / place).mkdir()
        each.write(tmp_path / place / RECORD_NAME)
    assert read_records(tmp_path) == ([far, other], [])


def test_data_beside_records_are_left_alone(tmp_path: Path) -> None:
    record().write(tmp_path / RECORD_NAME.replace("json", "jsonl"))
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n' * 3)
    assert read_records(tmp_path) == ([record()], [])
    with pytest.raises(CorruptRecord, match="train.jsonl' holds no record of headcount: 3 lines are none"):
        read_records(tmp_path / "train.jsonl")  # it was named
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(CorruptRecord, match="empty.jsonl' holds no record of headcount: it is empty"):
        read_records(tmp_path / "empty.jsonl")


def test_records_of_the_first_version_are_read() -> None:
    found, problems = read_records(RESULTS / "methods")
    assert (len(found) > 20 and problems == [] and found[0].total is None) or found[0].total == 72


def test_a_portable_record_names_data_and_not_where_they_lie() -> None:
    data = {"train": "/home/a/multi30k/train.en,/home/a/multi30k/train.de", "validation": "hub:a/b:c", "max_length": 5}
    moved = record(recipe={**record().recipe, "model": "/home/a/models/small", "data": data}).portable().recipe
    assert moved["model"] == "models/small" and moved["method"] == "michel"
    assert moved["data"] == {**data, "train": "multi30k/train.en,multi30k/train.de"}
    new = record(recipe={**record().recipe, "model": "new:tiny-student,d_model=64"}).portable().recipe["model"]
    assert new == "new:tiny-student,d_model=64"


def test_a_portable_error_names_files_and_not_where_they_lie() -> None:
    error = (
        "Model '/home/a/models/small' has no file /tmp/x/y.tsv: see https://a.org/b/c/d, or data/train.tsv, and/or 3/8."
    )
    shown = "Model 'models/small' has no file x/y.tsv: see https://a.org/b/c/d, or data/train.tsv, and/or 3/8."
    assert record(error=error).portable().error == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(record().to_json())[:100], "line 1: not whole JSON .* the record was cut off or changed"),
        (json.dumps({**record().to_json(), "format_version": FORMAT_VERSION + 1}), "Update headcount"),
        ('{"signature": "x", "format_version": 2}', "lacks recipe, subset, heads, metrics"),
        *(
            (json.dumps({**record().to_json(), name: value}), f"{name} of the record cannot be read")
            for name, value in {
                "recipe": {"data": []},
                "sites": [{"name": "x"}],
                "size": {"before": 3},
                "subset": {"a": 3},
                "costs": {"training": 5},
                "metrics": {"accuracy": "good"},
            }.items()
        ),
        ("[1]", "not a record of headcount"),
        ('{"signature": 1}', "not a record of headcount"),
    ],
)
def test_a_damaged_record_is_named_and_the_others_are_read(text: str, message: str, tmp_path: Path) -> None:
    good = json.dumps(record("good").to_json())
    (tmp_path / "list.jsonl").write_text(f"{text}\n{good}\n")
    found, [problem] = read_records(tmp_path)
    assert [each.name for each in found] == ["good"]
    with pytest.raises(CorruptRecord, match=message):
        raise CorruptRecord(problem)
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(CorruptRecord):
        read_record(tmp_path / RECORD_NAME)


def test_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(CorruptRecord, match="There is nothing at"):
        read_records(tmp_path / "none")
    assert read_records(tmp_path) == ([], [])


def test_records_are_a_table_in_one_line(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        record(name).write(tmp_path / name / RECORD_NAME)
    table = pandas.DataFrame(each.row() for each in read_records(tmp_path)[0])
    assert list(table["name"]) == ["a", "b"] and list(table["metric.accuracy"]) == [0.5, 0.5]
    assert {"option.examples", "training.lr", "data.train", "kept", "signature"} <= {*table.columns}


@pytest.mark.slow
def test_the_command_lists_filters_and_exports(tmp_path: Path) -> None:
    lines = [
        json.dumps(record(name, metrics={"accuracy": figure}).to_json()) for name, figure in (("a", 0.5), ("b", 0.75))
    ]
    (tmp_path / "list.jsonl").write_text("\n".join([*lines, '{"signature": "cut of']) + "\n")
    listed = headcount("records", tmp_path)
    assert listed.returncode == 0 and "2 of 2 records" in listed.stdout and "0.7500" in listed.stdout
    assert "left out" in listed.stderr and "list.jsonl, line 3" in listed.stderr
    one = headcount("records", tmp_path, "--where", "name=b", "--csv", tmp_path / "all.csv", "--columns", "name,kept")
    assert "1 of 2 records" in one.stdout and "accuracy" not in one.stdout
    assert list(pandas.read_csv(tmp_path / "all.csv")["metric.accuracy"]) == [0.75]
    low = record("c", recipe={**record().recipe, "training": {"lr": 2e-5}}, metrics={"accuracy": float("nan")})
    low.write(tmp_path / "low.jsonl")
    for condition in ("training.lr=2e-05", "training.lr=0.00002", "metric.accuracy=nan"):
        shown = headcount("records", tmp_path, "--where", condition, "--columns", "name,training.lr")
        assert "1 of 3 records" in shown.stdout and "2e-05" in shown.stdout, shown
    (tmp_path / "low.jsonl").unlink()
    whole = headcount("records", tmp_path, "--json")
    assert [json.loads(line)["name"] for line in whole.stdout.splitlines()] == ["a", "b"]
    for words, message in {
        ("--where", "method"): "Write column=value",
        ("--where", "x=1"): "No record has a column 'x'. Columns: name",
        ("--columns", "x"): "No record has a column 'x'",
    }.items():
        refused = headcount("records", tmp_path, *words)
        assert refused.returncode == 1 and message in refused.stderr and len(refused.stderr.splitlines()) <= 2
    assert "There is nothing at" in headcount("records", tmp_path / "none").stderr
