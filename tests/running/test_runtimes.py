"""Opening models for running: which runtime a directory goes to, inputs and outputs, threads, and what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from exporting import saved, saved_translator
from headcount.anatomy import present
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.running.export import export_model
from headcount.running.libraries import library, torch_threads
from headcount.running.measure import Size, compare, forward_flops
from headcount.running.measure.latency import distinct
from headcount.running.runtimes import RUNTIMES, PyTorch, Runner, open_model

openvino = library("openvino", "openvino")


def write_graph(directory: Path) -> Path:
    """An ONNX graph made by hand: doubled = 2 * ids as float, count = the ids as they are, sum = ids + types."""
    directory.mkdir(exist_ok=True)
    axes = ["batch", "length"]
    takes = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "token_type_ids")]
    gives = [("doubled", TensorProto.FLOAT), ("count", TensorProto.INT64), ("sum", TensorProto.FLOAT)]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["ids", "ids"], ["doubled"]),
        helper.make_node("Add", ["ids", "types"], ["sum"]),
        helper.make_node("Identity", ["input_ids"], ["count"]),
    ]
    graph = helper.make_graph(nodes, "by-hand", takes, [helper.make_tensor_value_info(n, k, axes) for n, k in gives])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, directory / "model.onnx")
    return directory


def write_openvino_graph(directory: Path) -> Path:
    write_graph(directory)
    openvino.save_model(openvino.Core().read_model(directory / "model.onnx"), directory / "openvino_model.xml")
    (directory / "model.onnx").unlink()
    return directory


GRAPHS = {"onnxruntime": write_graph, "openvino": write_openvino_graph}
IDS, TYPES = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 1, 1]])


@pytest.mark.parametrize("runtime", GRAPHS)
def test_graphs_take_names_and_give_floats_in_order(runtime: str, tmp_path: Path) -> None:
    runner = open_model(GRAPHS[runtime](tmp_path))
    assert type(runner) is RUNTIMES[runtime] and runner.runtime.split()[0] == runtime
    assert runner.runtime.split()[1] == library(runtime, "x").__version__.split("-")[0]
    doubled, total = runner({"input_ids": IDS, "token_type_ids": TYPES, "attention_mask": IDS})
    assert doubled.tolist() == [[2.0, 4.0, 6.0]] and total.tolist() == [[1.0, 3.0, 4.0]]
    assert runner({"input_ids": IDS.repeat(2, 1)})[1].tolist() == [[1.0, 2.0, 3.0]] * 2  # no types: zeros
    with pytest.raises(BadRecipe, match="takes input_ids, token_type_ids; got no input_ids"):
        runner({"token_type_ids": TYPES})
    files = [file for file in tmp_path.iterdir() if file.name.startswith(("model", "openvino"))]
    assert runner.file_bytes() == sum(file.stat().st_size for file in files)
    assert runner.structure() is None and runner.device == torch.device("cpu")


def test_a_directory_with_safetensors_is_pytorchs(tmp_path: Path) -> None:
    model = saved("bert", tmp_path)
    write_graph(tmp_path)
    runner = open_model(tmp_path)
    assert type(runner) is PyTorch and runner.runtime == f"torch {torch.__version__}"
    assert runner.structure() is runner.model and not runner.model.training and runner.file_bytes() is None
    assert present(runner.model) == present(model)
    with torch.no_grad():
        torch.testing.assert_close(runner({"input_ids": IDS})[0], model(IDS).logits)


def test_pytorch_gives_floats_of_any_kind_of_output() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, None]:
            return x.long(), x, None

    x = torch.tensor([0.5])
    assert [each.tolist() for each in PyTorch(Pair(), 1)({"x": x})] == [[0.5]]
    assert [each.tolist() for each in PyTorch(nn.ReLU(), 1)({"input": x})] == [[0.5]]


def test_threads(tmp_path: Path) -> None:
    """Read off where the runtime says them; PyTorch's are those inside the call, and afterwards as before."""
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return x

    with torch_threads(1):
        for number in (1, 2):
            PyTorch(Counting(), number)({"x": torch.ones(1)})
        assert seen == [1, 2] and torch.get_num_threads() == 1
    for number in (1, 2):
        session: Any = open_model(write_graph(tmp_path / f"onnx{number}"), number)
        assert session.session.get_session_options().intra_op_num_threads == number == session.threads
        compiled: Any = open_model(write_openvino_graph(tmp_path / f"openvino{number}"), number)
        assert compiled.model.get_property("INFERENCE_NUM_THREADS") == number == compiled.threads
        assert compiled.model.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    with pytest.raises(BadRecipe, match="Got threads 0"):
        open_model(tmp_path / "onnx1", 0)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"model.onnx": "broken"}, "onnxruntime cannot open model.onnx"),
        ({"openvino_model.xml": "<net"}, "openvino cannot open openvino_model.xml"),
        ({"model.bin": "broken"}, "ctranslate2 cannot open model.bin"),
        ({"config.json": "{}", "export.json": "{}"}, "Cannot load a model"),
        ({}, "no config.json"),
    ],
)
def test_damaged_directories(files: dict[str, str], says: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises((CorruptCheckpoint, BadRecipe), match=says) as error:
        open_model(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "file", "extra"),
    [("onnxruntime", "model.onnx", "onnx"), ("openvino", "openvino_model.xml", "openvino"),
     ("ctranslate2", "model.bin", "ctranslate2")],
)  # fmt: skip
def test_a_missing_runtime_names_its_extra(
    name: str, file: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).write_text("")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        BadRecipe, match=rf"needs {name}, which is not installed. Run: pip install 'headcount\[{extra}\]"
    ):
        open_model(tmp_path)


def test_openvino_reports_nothing() -> None:
    """Its import here found no telemetry and took a stub; and nobody later finds the real one missing."""
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert sys.modules.get("openvino_telemetry", sys) is not None


def test_an_exports_structure_is_that_of_its_configuration(tmp_path: Path) -> None:
    model = saved("bert", tmp_path / "model")
    write_graph(tmp_path / "export")
    (tmp_path / "model" / "config.json").rename(tmp_path / "export" / "config.json")
    structure = open_model(tmp_path / "export").structure()
    assert structure is not None and present(structure) == present(model) and not structure.training
    assert forward_flops(structure, 2, 8) == forward_flops(model, 2, 8)


def test_comparing_runtimes(tmp_path: Path) -> None:
    model = saved_translator("marian", tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "fast", "ctranslate2")
    runner = open_model(tmp_path / "fast", threads=1)
    whole, fast, blind = compare(
        {"whole": model, "fast": runner, "blind": _Blind()}, batch_size=2, length=6, rounds=2, warmup=0
    ).timings
    assert whole.runtime.startswith("torch ") and fast.runtime.startswith("ctranslate2 ")
    assert fast.size == Size(whole.size.parameters, (tmp_path / "fast" / "model.bin").stat().st_size)
    assert fast.flops == whole.flops == forward_flops(model, 2, 6) and fast.predicted_speedup == 1
    assert (blind.flops, blind.predicted_speedup, blind.share_of_prediction) == (None, None, None)
    assert blind.size == Size(None, 7) and len(blind.samples) == 2
    json.dumps([each.name for each in (whole, fast, blind)])
    with pytest.raises(BadRecipe, match="'fast' was opened for 1 threads; the comparison is for 2"):
        compare({"fast": runner}, threads=2)
    with pytest.raises(BadRecipe, match="Nothing tells what blind read"):
        compare({"blind": _Blind()})


class _Blind(Runner):
    """A runner of a model of which nothing is known."""

    files, runtime, threads, device = (), "none 0", 1, torch.device("cpu")

    @classmethod
    def open(cls, directory: Path, threads: int) -> "_Blind":
        return cls()

    def __call__(self, inputs: Any) -> list[Tensor]:
        return [inputs["input_ids"].float()]

    def structure(self) -> None:
        return None

    def file_bytes(self) -> int:
        return 7


def test_a_model_next_to_itself_has_two_names() -> None:
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
