"""The demonstration, on a quarter of its training: a row per model, and nothing of anybody else's is removed."""

from dataclasses import replace
from pathlib import Path

import pytest

from headcount.errors import BadRecipe
from headcount.experiments.demo import demonstration as demo


def test_it_removes_only_what_it_wrote(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BadRecipe, match="is there already and not empty"):
        demo.show_demo(tmp_path, 12)
    assert (tmp_path / "thesis.tex").read_text() == "mine" and (tmp_path / "corpus").is_dir()


@pytest.mark.slow
def test_a_row_per_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TRAINING", replace(demo.TRAINING, epochs=0.02))
    (tmp_path / ".headcount-demo").touch()
    (tmp_path / "notes.txt").write_text("mine")
    rows = demo.show_demo(tmp_path, 66)
    assert [(row["method"], row["K"]) for row in rows] == [("unpruned", 72), ("michel", 66), ("gradual", 66)]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["latency, ms"]) > 0 for row in rows)
    assert float(rows[1]["FLOPs predict"]) > 1 and (tmp_path / "notes.txt").read_text() == "mine"
