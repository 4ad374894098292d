"""From a model to a graph: example batches, names, axes that may change, and the check against PyTorch.

Both graph formats are traced by PyTorch's own exporter (`torch.onnx.export`, dynamo), and OpenVINO reads its ONNX
graph: one tracer, whose interface is older and steadier than the others'. transformers 5.23 has exporters too, and
OpenVINO a `convert_model`; they give the same numbers for every family tried, and graphs as fast to a few percent. But
the exporters of transformers call themselves experimental, replace functions of torch while they trace, and warn of
every version but one; and `convert_model` reports its use over the network.
"""

import inspect
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.anatomy.example import random_inputs
from headcount.errors import CorruptCheckpoint, ExportFailed, UnsupportedModel
from headcount.running.runtimes import Runner

TOLERANCE = 1e-5
"""Largest difference from PyTorch, as a share of the largest output (at least 1), in float32."""
TRACED, CHECKED = (2, 7), ((3, 12), (1, 5))
"""Batch and length of the batch that is traced, and of those that are compared: all different."""
ONE_FILE = 1_500_000_000
"""Bytes of weights up to which an ONNX graph holds them itself: protobuf ends at 2 GB."""


@dataclass(frozen=True)
class Written:
    """What an exporter wrote, and how it was checked.

    Attributes:
        inputs: Names of what the graph takes.
        outputs: Names of what it gives.
        difference: The largest difference from PyTorch that was seen, as a share of the largest output (at least 1).
        checked: What was compared, in words.
        notes: What its user should know.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float
    checked: str
    notes: tuple[str, ...] = ()


class Graph(nn.Module):
    """A model as a graph has it: tensors in, tensors out, in a fixed order."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, tuple(inputs), tuple(outputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs of these names, for inputs in the order of their names."""
        result = self.model(**dict(zip(self.inputs, tensors, strict=True)), return_dict=True)
        return tuple(result[name] for name in self.outputs)


def example(model: PreTrainedModel, batch: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    """A random batch with everything that the graph is to take; the last text is padded.

    Raises:
        UnsupportedModel: The model reads something that cannot be made up.
    """
    inputs = random_inputs(model, batch, length, seed)
    kinds = getattr(model.config, "type_vocab_size", None) or 1
    # Which of two sentences a token belongs to; transformers takes it for zero where a call leaves it out.
    if kinds > 1 and "input_ids" in inputs and "token_type_ids" in inspect.signature(model.forward).parameters:
        generator = torch.Generator().manual_seed(seed)
        inputs["token_type_ids"] = torch.randint(kinds, inputs["input_ids"].shape, generator=generator)
    return inputs


def axes_of(model: PreTrainedModel) -> dict[str, dict[int, str]]:
    """The axes of each input that may have any size, with their names: those that follow a batch's size and length.

    Raises:
        UnsupportedModel: A text's do not, so that the graph would take texts of one size only.
    """
    one, other = example(model, *TRACED), example(model, *CHECKED[0])
    found = {
        name: {
            axis: "batch" if axis == 0 else "target" if name == "decoder_input_ids" else "length"
            for axis in range(one[name].dim())
            if one[name].shape[axis] != other[name].shape[axis]
        }
        for name in one
    }
    if any(len(axes) < 2 for name, axes in found.items() if name.endswith(("input_ids", "attention_mask"))):
        raise UnsupportedModel(
            f"{type(model).__name__} cannot be exported for batches and texts of any size: "
            + (
                "it classifies by the last token before padding, and its config.json has no pad_token_id. Set that."
                if next(iter(one.values())).shape[0] == 1
                else f"its texts have at most {getattr(model.config, 'max_position_embeddings', 'very few')} tokens."
            )
        )
    return found


def graph_of(model: PreTrainedModel) -> Graph:
    """The graph of a model's full forward pass, without any cache; changes the model's configuration for that.

    Raises:
        UnsupportedModel: The model gives no floating-point tensor under a name.
    """
    for module in model.modules():
        if hasattr(getattr(module, "config", None), "use_cache"):
            module.config.use_cache = False
    if getattr(model, "_can_set_experts_implementation", lambda: False)():
        model.set_experts_implementation("batched_mm")  # the default sorts tokens by expert, which ONNX has no word for
    inputs = example(model, *TRACED)
    with torch.no_grad():
        result = model(**inputs, return_dict=True)
    outputs = [name for name, value in result.items() if isinstance(value, Tensor) and value.is_floating_point()]
    if not outputs:
        raise UnsupportedModel(f"{type(model).__name__} gives no output that a graph could have: {', '.join(result)}.")
    return Graph(model, list(inputs), outputs).eval()


def write_onnx(graph: Graph, file: Path) -> None:
    """Trace the graph and write it as ONNX; batch and lengths may be any.

    Raises:
        ExportFailed: PyTorch could not trace it.
    """
    inputs, axes = example(graph.model, *TRACED), tuple(axes_of(graph.model).values())
    weights = sum(each.numel() * each.element_size() for each in graph.state_dict().values())
    try:
        with quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                graph, tuple(inputs.values()), dynamo=True, verbose=False, dynamic_shapes=(axes,),
                input_names=list(graph.inputs), output_names=list(graph.outputs),
            )  # fmt: skip
            for node in program.model.graph.all_nodes():
                node.metadata_props.clear()  # the lines of source it came from, with this machine's paths
            program.save(file, external_data=weights > ONE_FILE)
    except Exception as error:  # the tracer's errors are of many kinds
        raise ExportFailed(
            f"{type(graph.model).__name__} could not be traced into a graph: {first_line(_root(error))}. "
            "Nothing was written; the model's PyTorch directory is not affected."
        ) from error


def opened(kind: type[Runner], directory: Path) -> Runner:
    """A written export, opened in its runtime.

    Raises:
        ExportFailed: The runtime cannot hold it.
    """
    try:
        return kind.open(directory, threads=1)
    except CorruptCheckpoint as error:
        reason = first_line(error.__cause__ or error)
        raise ExportFailed(
            f"{kind.__name__} cannot hold the model: {reason}. Nothing was written; try another format."
        ) from error


def check(graph: Graph, kind: type[Runner], directory: Path) -> tuple[float, str]:
    """Compare a written graph, in its runtime, with PyTorch on batches of other shapes than the one traced.

    Returns:
        The largest difference, as a share of the largest output (at least 1), and in words what was compared.

    Raises:
        ExportFailed: It is larger than allowed, or the runtime cannot hold the graph.
    """
    runner = opened(kind, directory)
    batches = [example(graph.model, *shape, seed) for seed, shape in enumerate(CHECKED, start=1)]
    difference = max(_difference(graph, runner, inputs) for inputs in batches)
    shapes = " and ".join("x".join(map(str, batch[graph.inputs[0]].shape)) for batch in batches)
    padded = ", padding included" if "attention_mask" in graph.inputs else ""
    require_close(difference, runner)
    return difference, f"{', '.join(graph.outputs)} on random batches of {shapes}{padded}"


def no_cache(graph: Graph) -> tuple[str, ...]:
    """What the user of a graph of a generating model should know."""
    model: Any = graph.model
    if not model.can_generate():
        return ()
    return (
        "the graph is one full forward pass, without a key/value cache: it scores texts, but to generate with it every "
        "token costs a pass over all before it; headcount offers no generation with it",
    )


def require_close(difference: float, runner: Runner) -> None:
    """Make sure that an export computes what PyTorch computes.

    Raises:
        ExportFailed: It does not.
    """
    if not difference <= TOLERANCE:
        raise ExportFailed(
            f"In {runner.runtime} the export's outputs differ from PyTorch's by {difference:.1e} of the largest; "
            f"allowed is {TOLERANCE:.0e}. Nothing was written. Try another format, or another version of the runtime, "
            "and please report it."
        )


def _root(error: BaseException) -> BaseException:
    """The error that an error came from, in the end: the tracer wraps it in general advice."""
    return error if error.__cause__ is None else _root(error.__cause__)


def _difference(graph: Graph, runner: Runner, inputs: Mapping[str, Tensor]) -> float:
    with torch.no_grad():
        expected = graph(*inputs.values())
    try:
        found = runner(inputs)
    except Exception as error:  # each runtime has exceptions of its own
        raise ExportFailed(
            f"{runner.runtime} cannot run the graph on another batch than the one traced: {first_line(error)}. "
            "Nothing was written; try another format."
        ) from error
    if [each.shape for each in expected] != [each.shape for each in found]:
        return float("inf")
    return max(share(one, other) for one, other in zip(expected, found, strict=True))


def share(expected: Tensor, found: Tensor) -> float:
    """The largest difference between two tensors, as a share of the largest entry expected (at least 1).

    Infinite where one of them is no number: comparisons would lose that.
    """
    difference = float((expected - found).abs().max() / expected.abs().max().clamp(min=1.0))
    return math.inf if math.isnan(difference) else difference


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and notices of the libraries that trace and convert: what they made is compared afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without a full stop; its kind, if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
