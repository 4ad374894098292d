"""OpenVINO: a graph in OpenVINO's own format, read from the ONNX graph of the model."""

from pathlib import Path

from transformers import PreTrainedModel

from headcount.running.export.graph import Graph, Written, check, graph_of, no_cache, write_onnx
from headcount.running.libraries import library
from headcount.running.runtimes import OpenVino


def export_openvino(model: PreTrainedModel, directory: Path) -> Written:
    """Write `openvino_model.xml` and `openvino_model.bin`, in float32.

    Raises:
        ExportFailed: It could not be traced, or does not compute what PyTorch computes.
        UnsupportedModel: See `graph.example`.
    """
    graph = graph_of(model)
    onnx = directory / "onnx"
    onnx.mkdir()
    write_onnx(graph, onnx / "model.onnx")
    _convert(graph, onnx / "model.onnx", directory / OpenVino.files[0])
    for file in onnx.iterdir():
        file.unlink()
    onnx.rmdir()
    difference, checked = check(graph, OpenVino, directory)
    return Written(graph.inputs, graph.outputs, difference, checked, no_cache(graph))


def _convert(graph: Graph, onnx: Path, file: Path) -> None:
    openvino = library("openvino", "openvino")
    converted = openvino.Core().read_model(str(onnx))
    for ports, names in ((converted.inputs, graph.inputs), (converted.outputs, graph.outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    openvino.save_model(converted, str(file), compress_to_fp16=False)
