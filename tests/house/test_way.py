"""A reader who follows one run passes few files, and hardly ever climbs back to a higher floor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import way as way_script
from floors import FLOORS
from way import Way

FILES, CLIMBS = 52, 1
"""At most so many of each."""


@pytest.fixture(scope="module")
def way(tiny_bert_dir: Path, data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The way of `headcount prune … --method dsp-joint`."""
    output = tmp_path_factory.mktemp("way") / "out"
    command = [sys.executable, str(way_script.__file__), "prune", str(tiny_bert_dir), "-o", str(output)]
    command += ["--train", data["train"], "--validation", data["validation"], "--development", "16"]
    command += ["--method", "dsp-joint", "--keep", "3", "--epochs", "1", "--batch-size", "8", "--lr", "1e-3"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert (output / "model.safetensors").is_file()
    return Way(set(told["files"]), {(caller, callee) for caller, callee in told["calls"]})


def test_the_trace_sees_the_run(way: Way) -> None:
    assert {"cli/pruning.py", "experiments/run.py", "methods/dsp_joint.py", "surgery/cut.py"} <= way.files
    assert ("experiments/run.py", "surgery/cut.py") in way.calls


def test_a_run_passes_few_files(way: Way) -> None:
    assert len(way.files) <= FILES, sorted(way.files)


def test_a_run_hardly_climbs(way: Way) -> None:
    climbs = way.climbs(FLOORS, lambda file: file.split("/")[0].removesuffix(".py"))
    assert len(climbs) <= CLIMBS, climbs


def test_climbs_by_hand() -> None:
    way = Way(calls={("a/x.py", "b/y.py"), ("b/y.py", "a/z.py"), ("a/x.py", "a/z.py"), ("__init__.py", "a/x.py")})
    assert way.climbs(("a", "b"), lambda file: file.split("/")[0]) == [("b/y.py", "a/z.py")]
