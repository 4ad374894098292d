"""Sweeps: whatever stops them, they end with the same records; what runs have in common is trained once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sweeps import records_of, runs_of

from headcount.cli.terminal import Watch
from headcount.errors import BadRecipe, DiskFull, PruningError
from headcount.experiments.grid import Run
from headcount.experiments.recipe import Recipe
from headcount.experiments.sweep import Cluster, Place, Progress, Work, measure_speed, run_sweep
from headcount.experiments.sweep.loop import choose_next
from headcount.settings.records import RECORD_NAME, Record, read_records
from processes import headcount


def in_this_process(work: Work) -> str | None:
    try:
        work.carry_out()
    except DiskFull:
        raise
    except PruningError as error:
        return str(error)
    return None


class Here:
    """A pool that carries runs out at once, in this process."""

    size = 1

    def __init__(self, fail: Callable[[Work], str | None] = in_this_process) -> None:
        self.work, self.ended = fail, list[tuple[str, str | None]]()
        self.order: list[str] = []

    def start(self, work: Work) -> None:
        self.order.append(work.run.name)
        self.ended.append((work.run.name, self.work(work)))

    def wait(self, seconds: float) -> list[tuple[str, str | None]]:
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass


def test_a_sweep_leaves_a_record_a_run_and_does_none_twice(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    runs = runs_of(grid_file(["magnitude", "unpruned"], [2, 4], [0]))
    first, seen = Here(), list[Progress]()
    progress = run_sweep(runs, tmp_path / "out", lambda: first, keep_models=False, watch=lambda p: seen.append(p))
    assert sorted(progress.done) == sorted(run.name for run in runs) and not progress.failed and seen
    assert progress.seconds_left == 0
    records = records_of(tmp_path / "out")
    assert records.keys() == {run.name for run in runs}
    kept = {name: sum(map(len, record["subset"].values())) for name, record in records.items()}
    assert kept == {
        "magnitude-k2-s0": 2,
        "magnitude-k4-s0": 4,
        "unpruned-s0": 8,
        "lottery-k2-s0": 2,
        "lottery-k4-s0": 4,
    }
    assert not list((tmp_path / "out" / "runs").rglob("model.safetensors"))
    again = run_sweep(runs, tmp_path / "out", pytest.fail)
    assert sorted(again.done) == sorted(progress.done)

    # What the runs have in common was trained once, and each has it in its books as if it had been alone.
    assert len(list((tmp_path / "out" / "shared").glob("*/checkpoint-*"))) == 2
    alone = Here()
    run_sweep([runs[0]], tmp_path / "alone", lambda: alone, keep_models=False)
    assert records_of(tmp_path / "alone")[runs[0].name] == records[runs[0].name]

    for record in read_records(tmp_path / "out")[0]:
        assert record.flops["after"] <= record.flops["before"] and record.machine["cores"] and record.total == 8
    measure_speed(runs, tmp_path / "out", batch_size=1, length=8, rounds=2, warmup=1)
    assert all(record.speed["predicted_speedup"] >= 1 for record in read_records(tmp_path / "out")[0])


def test_a_failed_run_stops_no_other_and_is_tried_again_on_request(
    grid_file: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [run for run in runs_of(grid_file(["magnitude"], [2, 3], [0])) if run.recipe.method == "magnitude"]
    bad = Run("too-many", replace(runs[0].recipe, keep=9))
    progress = run_sweep([bad, *runs], tmp_path / "out", Here)
    assert len(progress.done) == 2 and "9" in progress.failed["too-many"]
    [failed] = [record for record in read_records(tmp_path / "out")[0] if record.error]
    assert (failed.name, failed.metrics, failed.recipe["keep"]) == ("too-many", {}, 9)

    assert run_sweep([bad, *runs], tmp_path / "out", pytest.fail).failed == progress.failed
    retried = Here(lambda work: None)
    assert run_sweep([bad, *runs], tmp_path / "out", lambda: retried, retry=True).failed == {}
    assert retried.order == ["too-many"]


def test_what_is_there_is_another_recipes(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    [run, *_] = runs_of(grid_file(["magnitude"], [2], [0]))
    run_sweep([run], tmp_path / "out", Here, keep_models=False)
    other = Run(run.name, replace(run.recipe, keep=3))
    with pytest.raises(BadRecipe, match="holds another recipe: keep was 2, is 3. Name another output, or remove"):
        run_sweep([other], tmp_path / "out", Here)
    (tmp_path / "out" / "runs" / run.name / RECORD_NAME).write_text('{"signature": "cut')
    with pytest.raises(
        BadRecipe, match="magnitude-k2-s0.*not whole JSON.*Remove it, and run its recipe again. Or name"
    ):
        run_sweep([run], tmp_path / "out", Here)


def test_a_method_that_was_left_to_headcount_is_done_when_it_was_chosen(
    grid_file: Callable[..., Path], tmp_path: Path
) -> None:
    [run, *_] = runs_of(grid_file(["auto"], [2], [0]))
    chosen = record_of(replace(run.recipe, method="gradual"))
    (tmp_path / "runs" / run.name).mkdir(parents=True)
    chosen.write(tmp_path / "runs" / run.name / RECORD_NAME)
    assert Place(tmp_path).is_done(run)
    with pytest.raises(BadRecipe, match="keep was 2, is 3"):
        Place(tmp_path).is_done(Run(run.name, replace(run.recipe, keep=3)))


def test_a_failure_is_that_of_its_recipe_and_of_its_last_try(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    [run, *_] = runs_of(grid_file(["magnitude"], [2], [0]))
    corrected = Run(run.name, replace(run.recipe, keep=3))
    assert run_sweep([run], tmp_path, lambda: Here(lambda work: "too big")).failed == {run.name: "too big"}
    assert run_sweep([run], tmp_path, pytest.fail).failed == {run.name: "too big"}
    assert run_sweep([corrected], tmp_path, lambda: Here(lambda work: "killed")).failed == {run.name: "killed"}
    [found] = read_records(tmp_path)[0]
    assert (found.error, found.recipe["keep"]) == ("killed", 3)
    (tmp_path / "failed" / f"{run.name}.json").write_text('{"signature": "cut')
    assert run_sweep([run], tmp_path, lambda: Here(lambda work: None)).done == [run.name]


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """One was killed amid its writing, one between its record and the end of its tidying up."""
    others = [".git", ".ipynb_checkpoints", ".whole", "other.checkpoints"]  # a user may have named any directory
    for name in ("whole", "whole.checkpoints", "begun.checkpoints", ".begun.a1b2c3d4", *others):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "whole" / RECORD_NAME).write_text("{}")
    for name in ("whole", "begun"):
        with Place(tmp_path).alone_at(name):
            pass
    left = {path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    assert left == {"begun.checkpoints", "whole", *others}


def test_the_checkpoints_of_a_run_that_is_done_are_removed(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    [run, *_] = runs_of(grid_file(["magnitude"], [2], [0]))
    for name in (run.name, f"{run.name}.checkpoints"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    record_of(run.recipe).write(tmp_path / "runs" / run.name / RECORD_NAME)
    assert run_sweep([run], tmp_path, pytest.fail).done == [run.name]
    assert not (tmp_path / "runs" / f"{run.name}.checkpoints").exists()


def record_of(recipe: Recipe) -> Record:
    return Record("x", recipe.to_json(), {"a": [0]}, "1", {"accuracy": 0.5})


def test_a_record_from_before_recipes_had_a_field_still_counts(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    [run, *_] = runs_of(grid_file(["magnitude"], [2], [0]))
    run_sweep([run], tmp_path / "out", Here, keep_models=False)
    file = tmp_path / "out" / "runs" / run.name / RECORD_NAME
    plain = json.loads(file.read_text())
    del plain["recipe"]["training"]["judge_by"], plain["recipe"]["unit"]
    file.write_text(json.dumps(plain))
    assert run_sweep([run], tmp_path / "out", pytest.fail).done == [run.name]


def test_one_sweep_at_a_time(tmp_path: Path) -> None:
    with Place(tmp_path).alone(), pytest.raises(BadRecipe, match="Another sweep is at work"):
        run_sweep([], tmp_path, Here)


@pytest.mark.slow
def test_a_full_disk_stops_the_sweep_and_fails_no_run(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    runs = runs_of(grid_file(["magnitude"], [2, 3], [0]))

    def full(work: Work) -> str | None:
        if work.run == runs[1]:
            raise DiskFull("The disk is full")
        return in_this_process(work)

    pool = Here(full)
    with pytest.raises(DiskFull):
        run_sweep(runs[:3], tmp_path / "out", lambda: pool, keep_models=False)
    assert pool.order == [runs[0].name, runs[1].name] and not list((tmp_path / "out" / "failed").iterdir())
    assert len(run_sweep(runs[:3], tmp_path / "out", Here, keep_models=False).done) == 3


@pytest.mark.parametrize("need", [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.5), (1.0, 1.5), (float("nan"), 0.0)])
def test_fractions_that_no_cluster_has(need: tuple[float, float]) -> None:
    with pytest.raises(BadRecipe, match="cores and .* GPUs a run. Give numbers from 0 up"):
        Cluster("auto", *need)


def test_every_run_that_ends_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with Watch() as watch:
        watch.show(Progress(pending=["a", "b"]))
        watch.show(Progress(done=["a"], pending=["b"]))
        watch.show(Progress(done=["a"], failed={"b": "unlucky"}))
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in told] == ["done: a", "failed: b"]


def test_no_run_waits_for_anothers_training_while_there_is_other_work(grid_file: Callable[..., Path]) -> None:
    runs = runs_of(grid_file(["magnitude", "random", "ste"], [2], [0, 1]))
    at_work = next(run for run in runs if run.name == "magnitude-k2-s0")
    waiting = [run for run in runs if run != at_work]
    waiting.sort(key=lambda run: (run.recipe.method != "random", run.recipe.seed))
    assert choose_next(waiting, [at_work]).name == "random-k2-s1"
    assert choose_next(waiting[:1], [at_work]).name == "random-k2-s0"


def test_what_the_command_refuses(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    file = grid_file(["magnitude"], [2], [0])
    many = json.dumps([*range(50_000)])
    for words, message in {
        ("--set", f"seed={many}"): "is a grid of 100,000 runs. To carry them out: --yes.",
        ("--set", "seed=[]"): "'seed' is an empty list: a grid of no runs",
        ("--workers", "0"): "Got workers 0. Give 1 or more.",
        ("--ray", "127.0.0.1:1"): "Ray at '127.0.0.1:1' does not answer within 5 s",
        ("--ray", "nonsense"): "Got Ray address 'nonsense'. Give host:port",
        ("--ray", "auto", "--workers", "2"): "--workers are runs at a time on this machine. On Ray",
        ("--ray-gpus", "4"): "are of runs on a Ray cluster. Name it: --ray auto",
        ("--threads", "2000"): "Got threads 2000. Give 1024 or fewer",
        ("--only", "k9"): "No run has k9 in its name, whole between hyphens. Runs: magnitude-k2-s0",
    }.items():
        refused = headcount("sweep", file, "-o", tmp_path / "out", *words)
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert not (tmp_path / "out").exists()
    for name, message in {"model": "is a model's directory", "model/config.json": "is a file"}.items():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "config.json").write_text("{}")
        refused = headcount("sweep", file, "-o", tmp_path / name)
        assert refused.returncode == 1 and f"{message}. Name another directory" in refused.stderr, refused.stderr
    assert [each.name for each in (tmp_path / "model").iterdir()] == ["config.json"]
    assert "There is no file" in headcount("sweep", tmp_path / "none.toml", "-o", tmp_path / "out").stderr


def test_what_would_be_done_is_listed(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    file = grid_file(["magnitude", "random"], [2], [0, 1])
    words = ["sweep", file, "-o", tmp_path / "out", "--dry-run", "--only", "random"]
    rows = json.loads(headcount(*words, "--json").stdout)
    assert [row["name"] for row in rows] == ["random-k2-s0", "random-k2-s1"] and rows[0]["keep"] == 2
    shown = headcount(*words).stdout
    assert "random-k2-s1" in shown and "magnitude" not in shown and "2 runs" in shown
    assert not (tmp_path / "out").exists()


def test_a_recipe_in_a_file_is_carried_out(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    file = grid_file(["magnitude"], [2], [0])
    assert "a grid of 2 runs. Run it by: headcount sweep" in headcount("run", file, "-o", tmp_path / "one").stderr
    text = file.read_text().partition("[[grid]]")[0].replace("keep = [2]", 'method = "magnitude"\nkeep = 2')
    file.write_text(text.replace("seed = [0]", "seed = 0"))
    done = headcount("run", file, "-o", tmp_path / "one", "--set", "keep=3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"]["keep"] == 3 and (tmp_path / "one" / "model.safetensors").is_file()
