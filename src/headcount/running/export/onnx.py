"""ONNX: one graph with its weights, for ONNX Runtime and everything else that reads ONNX."""

from pathlib import Path

from transformers import PreTrainedModel

from headcount.running.export.graph import Written, check, graph_of, no_cache, write_onnx
from headcount.running.runtimes import OnnxRuntime


def export_onnx(model: PreTrainedModel, directory: Path) -> Written:
    """Write `model.onnx`, and beside it `model.onnx.data` where the weights are too large for one file.

    Raises:
        ExportFailed: It could not be traced, or does not compute what PyTorch computes.
        UnsupportedModel: See `graph.example`.
    """
    graph = graph_of(model)
    write_onnx(graph, directory / OnnxRuntime.files[0])
    difference, checked = check(graph, OnnxRuntime, directory)
    return Written(graph.inputs, graph.outputs, difference, checked, no_cache(graph))
