"""One run of a sweep as a process: what it is given, where its words go, and what the sweep reads from its end."""

import errno
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweeps import runs_of

from headcount.errors import BadRecipe, DiskFull
from headcount.experiments.grid import Run, read_recipe
from headcount.experiments.recipe import Recipe
from headcount.experiments.sweep import Place, Work, Workers, run_sweep
from headcount.experiments.sweep.cluster import carry_out_from
from headcount.experiments.sweep.work import how_it_ended
from headcount.methods import METHODS
from headcount.settings.records import Record, read_record
from headcount.settings.toml import Document
from processes import headcount


@pytest.fixture
def work(grid_file: Callable[..., Path], tmp_path: Path) -> Work:
    [run, *_] = runs_of(grid_file(["magnitude"], [2], [0]))
    place = Place(tmp_path.resolve())
    place.make()
    return Work(run, place, keep_model=False)


def stand_in(patch: pytest.MonkeyPatch, *words: str) -> None:
    """Have runs carried out by another program."""
    patch.setattr(Work, "command", property(lambda work: [sys.executable, "-c", *words]))


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_the_recipe_of_a_run_is_the_one_that_its_process_reads(method: str, work: Work) -> None:
    keep = None if method == "unpruned" else 2
    recipe = Recipe("a model", method, keep, {"train": "a", "validation": "b", "text": ("one", "two")}, seed=3)
    file = work.place.recipe("x")
    file.write_text(json.dumps(recipe.to_json()))
    assert read_recipe(Document.read(file), {}) == recipe


def test_files_that_hold_no_recipe_are_refused(work: Work) -> None:
    file = work.place.recipe("x")
    for text, message in {
        "[1]": "x.json: got JSON that is no object",
        '{"model": ': "x.json: cannot be read as JSON: Expecting value",
        '{"modle": "a"}': "x.json: unknown key 'modle'",
    }.items():
        file.write_text(text)
        with pytest.raises(BadRecipe, match=message):
            read_recipe(Document.read(file), {})


def test_what_a_run_says_goes_to_its_log(work: Work, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    stand_in(monkeypatch, "import sys; print('out'); print('err', file=sys.stderr)")
    for _ in range(2):
        assert work.begin().wait() == 0
    assert sorted(work.place.log(work.run.name).read_text().split()) == ["err", "err", "out", "out"]
    assert capfd.readouterr() == ("", "")


def test_on_a_cluster_paths_are_those_of_where_the_command_was_given(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "import os; print(os.getcwd())")
    (tmp_path / "there").mkdir()
    for directory in (tmp_path / "there", tmp_path / "none"):
        assert carry_out_from(directory, work) == 0
    told = work.place.log(work.run.name).read_text().splitlines()
    assert told == [str((tmp_path / "there").resolve()), str(Path.cwd())]


@pytest.mark.parametrize("end", ["exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_process_that_leaves_nothing_fails_its_run(end: str, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, end)
    progress = run_sweep([work.run], work.place.root, lambda: Workers(2))
    why = how_it_ended(3 if "exit" in end else -15)
    assert progress.failed == {work.run.name: why}
    assert read_record(work.place.failure(work.run.name)).error == why


def test_the_end_of_a_process_in_words() -> None:
    assert how_it_ended(-9) == "The process was killed by SIGKILL; perhaps it ran out of memory."
    assert how_it_ended(-40) == "The process was killed by signal 40."  # of real time: it has no name
    assert how_it_ended(3) == "The process ended with exit code 3. Its log says more."


def test_a_full_disk_ends_the_sweep_and_stops_its_runs(
    work: Work, grid_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = runs_of(grid_file(["magnitude"], [2, 3], [0]))
    monkeypatch.setattr(
        Work,
        "command",
        property(
            lambda work: (
                [sys.executable, "-c", f"exit({errno.ENOSPC})"]
                if work.run == first
                else [sys.executable, "-c", "import time; time.sleep(3); print('still there', flush=True)"]
            )
        ),
    )
    with pytest.raises(DiskFull, match=f"The disk is full: {first.name} was not done. Free some space and give"):
        run_sweep([first, second], work.place.root, lambda: Workers(2))
    assert not list((work.place.root / "failed").iterdir())
    assert work.place.log(second.name).read_text() == ""


@pytest.mark.slow
def test_a_log_without_room_is_a_full_disk(work: Work) -> None:
    work.place.log(work.run.name).symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        work.outcome(work.begin().wait())
    assert not list((work.place.root / "failed").iterdir())


@pytest.mark.parametrize("where", ["run", "failure"])
def test_a_full_disk_is_no_fault_of_the_run(where: str, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "full") if where == "run" else ValueError("unlucky")

    monkeypatch.setattr("headcount.experiments.sweep.work.run_recipe", full)
    if where == "failure":
        monkeypatch.setattr(Record, "write", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(DiskFull):
        work.carry_out()
    assert not list((work.place.root / "failed").iterdir())


def test_a_failure_is_recorded_in_2000_characters(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise ValueError("missing key\n" * 10_000)

    monkeypatch.setattr("headcount.experiments.sweep.work.run_recipe", fail)
    with pytest.raises(ValueError, match="missing key"):
        work.carry_out()
    why = work.outcome(1)
    assert why is not None and why.startswith("ValueError: missing key missing") and len(why) == 2000


def test_a_run_of_a_sweep_can_be_carried_out_by_hand(work: Work) -> None:
    name, root = work.run.name, work.place.root
    work.place.recipe(name).write_text(json.dumps(work.run.recipe.to_json()))
    work.place.record_failure(work.run, "unlucky")
    for _ in range(2):  # the second finds the record
        ran = headcount("run", work.place.recipe(name), "-o", root, "--in-sweep", "--no-model")
        assert ran.returncode == 0 and f"Wrote {root / 'runs' / name}.\n" in ran.stdout, ran.stderr
    assert work.place.is_done(work.run) and not work.place.failure(name).exists()
    assert (
        not list((root / "runs").rglob("model.safetensors"))
        and len(list((root / "shared").glob("*/checkpoint-*"))) == 1
    )
    bad = Run("bad", replace(work.run.recipe, keep=9))
    work.place.recipe("bad").write_text(json.dumps(bad.recipe.to_json()))
    assert headcount("run", work.place.recipe("bad"), "-o", root, "--in-sweep").returncode == 1
    assert "9" in str(work.place.failed(bad))
