"""Whatever stops a sweep, a dead process, a kill, a lost node, Ctrl-C, it ends with the records of one left alone."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sweeps import records_of, runs_of

from headcount.experiments.sweep import Progress, Workers, run_sweep
from processes import headcount
from recipes import slow


@slow
def test_a_process_that_dies_fails_its_run_alone(
    grid_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_of(grid_file(["magnitude"], [2, 3], [0]))[:2]

    def kill_the_first(progress: Progress) -> None:
        log = tmp_path / "out" / "logs" / f"{runs[0].name}.log"
        if (
            runs[0].name in progress.running
            and log.is_file()
            and (found := re.findall(r" process (\d+)\n", log.read_text()))
        ):
            os.kill(int(found[-1]), signal.SIGKILL)

    progress = run_sweep(runs, tmp_path / "out", lambda: Workers(2), keep_models=False, watch=kill_the_first)
    assert progress.done == [runs[1].name]
    assert progress.failed == {runs[0].name: "The process was killed by SIGKILL; perhaps it ran out of memory."}
    again = run_sweep(runs, tmp_path / "out", lambda: Workers(2), keep_models=False, retry=True)
    assert len(again.done) == 2 and again.failed == {}


KILLS, RUNS = 3, 12
WORDS = ("--workers", "2", "--threads", "1", "--no-models")


@pytest.fixture(scope="module")
def grid(grid_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A grid of 12 runs, and their records from a sweep that was left alone."""
    file, output = grid_file(["magnitude", "random", "ste"], [2, 4, 6], [0]), tmp_path_factory.mktemp("a")
    alone = headcount("sweep", file, "-o", output, *WORDS)
    assert alone.returncode == 0, alone.stderr
    records = records_of(output)
    assert len(records) == RUNS
    return file, records


@slow
def test_a_sweep_killed_three_times_ends_as_one_left_alone(grid: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file, records = grid
    chance, kills, out = random.Random(0), 0, tmp_path / "out"
    command = [sys.executable, "-m", "headcount", "sweep", str(file), "-o", str(tmp_path / "out"), *WORDS]
    while kills < KILLS:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(partial(at_work, tmp_path / "out", process))
        # At a random moment, but before so many runs are done that too few are left for three kills.
        until, done = time.monotonic() + chance.uniform(0, 4), len(records_of(out))
        while time.monotonic() < until and len(records_of(out)) < done + 2:
            time.sleep(0.02)
        assert process.poll() is None
        if kills % 2:  # the sweep with its runs, as when a machine goes down
            os.killpg(process.pid, signal.SIGKILL)
        else:  # the sweep alone: its runs stay at work, and the next sweep waits for them
            process.kill()
        kills += 1
        process.wait()
    assert len(records_of(out)) < RUNS  # there was something left to kill to the last
    again = headcount("sweep", file, "-o", tmp_path / "out", *WORDS)
    assert again.returncode == 0, again.stderr
    assert records_of(tmp_path / "out") == records
    assert not list((tmp_path / "out").glob("runs/*.checkpoints"))


def at_work(output: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether runs are begun that have no record yet, or the process has ended."""
    begun, done = (len(list(output.glob(pattern))) for pattern in ("logs/*", "runs/*/headcount.json"))
    return begun > done or process.poll() is not None


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


RAY = """\
import json, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster as Nodes
from headcount.experiments.grid import Grid
from headcount.experiments.sweep import Cluster, run_sweep
from headcount.settings.toml import Document

file, output = map(Path, sys.argv[1:])
nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
second = nodes.add_node(num_cpus=1)
killed, said = [], []
Cluster(nodes.address, cpus=2, say=said.append).close()

def watch(progress):
    if len(progress.done) >= 3 and not killed and len(progress.running) == 2:
        killed.append(list(progress.running))
        nodes.remove_node(second, allow_graceful=False)
        nodes.add_node(num_cpus=1)

done = run_sweep(Grid(Document.read(file), {}).runs(), output, lambda: Cluster(nodes.address), keep_models=False,
                 threads=1, watch=watch)
print(json.dumps({"done": len(done.done), "failed": done.failed, "killed": killed, "said": said}))
nodes.shutdown()
"""


@slow
def test_the_same_sweep_on_a_cluster_that_loses_a_node(grid: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    file, records = grid
    (tmp_path / "on_ray.py").write_text(RAY)
    ended = subprocess.run(
        [sys.executable, tmp_path / "on_ray.py", file, tmp_path / "out"], capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["done"] == RUNS and told["failed"] == {} and told["killed"]
    [said] = told["said"]
    assert said.startswith(
        "No node of the Ray cluster has 2 cores and 0 GPUs, which a run wants (they have 1 and 0; 1 and"
    )
    assert records_of(tmp_path / "out") == records


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_the_runs_and_say_how_to_go_on(
    number: signal.Signals, grid_file: Callable[..., Path], tmp_path: Path
) -> None:
    process = begun(grid_file(["ste"], [2, 3, 4, 5, 6], [0, 1, 2, 3]), tmp_path / "out", stderr=subprocess.PIPE)
    timer = threading.Timer(300, process.kill)
    timer.start()
    wait_for(lambda: len(processes_of(tmp_path / "out")) == 2)
    process.send_signal(number)
    _, error = process.communicate()
    timer.cancel()
    assert process.returncode == 1 and b"Stopped. What is done is in" in error and b"Traceback" not in error
    for each in processes_of(tmp_path / "out"):
        with pytest.raises(ProcessLookupError):
            os.kill(each, 0)


@slow
def test_the_next_sweep_waits_for_the_runs_of_a_killed_one(grid_file: Callable[..., Path], tmp_path: Path) -> None:
    file, out = grid_file(["magnitude"], [2], [0]), tmp_path / "out"
    process = begun(file, out, "--only", "magnitude")
    wait_for(lambda: len(processes_of(out)) == 1)
    process.kill()
    process.wait()
    [left] = processes_of(out)
    os.kill(left, signal.SIGSTOP)
    again = begun(file, out, "--only", "magnitude")
    wait_for(lambda: len(processes_of(out)) == 2)
    time.sleep(1)
    assert again.poll() is None and not records_of(out)
    os.kill(left, signal.SIGCONT)
    assert again.wait(60) == 0 and len(records_of(out)) == 1
    [log] = out.glob("logs/*.log")
    assert log.read_text().count("magnitude keeps 2") == 1


def begun(file: Path, output: Path, *words: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "headcount", "sweep", str(file), "-o", str(output), "--workers", "2", *words],
        stdout=subprocess.DEVNULL, stderr=stderr,
        # A shell has what it starts in the background ignore Ctrl-C, and so would all that the tests start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def processes_of(output: Path) -> list[int]:
    """The numbers of the processes that runs had, from their logs."""
    logs = [log.read_text() for log in output.glob("logs/*.log")]
    return [int(number) for log in logs for number in re.findall(r" process (\d+)\n", log)]
