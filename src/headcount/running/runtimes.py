"""Opening a model for running, whatever its form: a Hugging Face directory, or an export in one of three formats.

A runner says in which runtime it runs, takes a model's inputs by name, and gives back its floating-point outputs.
Another runtime is one class and one row of `RUNTIMES`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from headcount.anatomy import present
from headcount.directory.model_files import load, skeleton
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.running.libraries import library, torch_threads
from headcount.settings.schema import require_least
from headcount.surgery.cut import remove_heads

Inputs = Mapping[str, Tensor]


class Runner(ABC):
    """A model that is open for running.

    Attributes:
        files: The files by which a directory of this form is known; the first holds the graph, all count for its size.
        runtime: What runs it, with its version: `onnxruntime 1.31.1`.
        threads: CPU threads that it runs on.
    """

    files: ClassVar[tuple[str, ...]]
    runtime: str
    threads: int

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it runs."""

    @classmethod
    @abstractmethod
    def open(cls, directory: Path, threads: int) -> "Runner":
        """Open the model in a directory of this form.

        Raises:
            BadRecipe: The runtime is not installed.
            CorruptCheckpoint: The runtime cannot read the directory.
        """

    @abstractmethod
    def __call__(self, inputs: Inputs) -> list[Tensor]:
        """The model's floating-point outputs, in its own order, for these inputs; those it does not take are ignored.

        Raises:
            BadRecipe: An input that it takes is missing.
        """

    @abstractmethod
    def structure(self) -> nn.Module | None:
        """The PyTorch model, as far as its structure goes, or None where nothing tells it. Weights may be random."""

    @abstractmethod
    def file_bytes(self) -> int | None:
        """The bytes of weights and graph on disk; None for a module, which need not be on any."""


class PyTorch(Runner):
    """A module in PyTorch, in the mode and on the device that it is on."""

    files = ("model.safetensors", "model.safetensors.index.json")

    def __init__(self, model: nn.Module, threads: int) -> None:
        self.model, self.threads = model, threads
        self.runtime = f"torch {torch.__version__}"

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.model.parameters()).device

    @classmethod
    def open(cls, directory: Path, threads: int) -> "PyTorch":
        """See `headcount.directory.model_files.load`; in evaluation mode."""
        return cls(load(directory).eval(), threads)

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        """The module's outputs that are floating-point tensors."""
        with torch_threads(self.threads), torch.inference_mode():
            result: Any = self.model(**inputs)
        values = result.values() if isinstance(result, Mapping) else [result] if isinstance(result, Tensor) else result
        return _floats(values)

    def structure(self) -> nn.Module:
        """The module itself."""
        return self.model

    def file_bytes(self) -> None:
        """None: a module need not be on any disk."""


class ExportedRunner(Runner):
    """What runners of exported directories share."""

    library: ClassVar[str]
    extra: ClassVar[str]
    device = torch.device("cpu")

    def __init__(self, directory: Path, threads: int) -> None:
        runtime = library(self.library, self.extra)
        self.directory, self.threads = directory, threads
        self.runtime = f"{self.library} {runtime.__version__.split('-')[0]}"
        try:
            self._start(runtime)
        except Exception as error:  # each runtime has exceptions of its own
            raise CorruptCheckpoint(
                f"'{directory}': {self.library} cannot open {self.files[0]}: {str(error).strip().splitlines()[0]}"
            ) from error

    @classmethod
    def open(cls, directory: Path, threads: int) -> "ExportedRunner":
        """Open it in its runtime, on the CPU."""
        return cls(directory, threads)

    @abstractmethod
    def _start(self, runtime: ModuleType) -> None:
        """Read the files; whatever the runtime raises is reported."""

    def structure(self) -> nn.Module | None:
        """The model that `config.json` beside the graph describes, with its heads cut and random weights."""
        if not (self.directory / "config.json").is_file():
            return None
        outline = skeleton(self.directory)
        model: nn.Module = type(outline)(outline.config)
        if getattr(outline.config, "quantization_config", None) is not None:
            remove_heads(model, present(outline), check=False)
        return model.eval()

    def file_bytes(self) -> int:
        """The bytes of its files, without configuration and tokenizer."""
        return sum((self.directory / name).stat().st_size for name in self.files if (self.directory / name).is_file())

    def _feed(self, inputs: Inputs, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The inputs of these names, as arrays. Token types that are not given are zeros, as in transformers."""
        if "token_type_ids" in names and "input_ids" in inputs:
            inputs = {"token_type_ids": torch.zeros_like(inputs["input_ids"]), **inputs}
        if missing := [name for name in names if name not in inputs]:
            raise BadRecipe(f"'{self.directory}' takes {', '.join(names)}; got no {', '.join(missing)}.")
        return {name: inputs[name].numpy() for name in names}


class OnnxRuntime(ExportedRunner):
    """An ONNX graph in ONNX Runtime."""

    files = ("model.onnx", "model.onnx.data")
    library, extra = "onnxruntime", "onnx"

    def _start(self, runtime: ModuleType) -> None:
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3  # errors
        file = str(self.directory / self.files[0])
        self.session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self.session.get_inputs()]

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        """The graph's floating-point outputs."""
        return _floats(torch.from_numpy(value) for value in self.session.run(None, self._feed(inputs, self._inputs)))


class OpenVino(ExportedRunner):
    """An OpenVINO graph on the CPU, in float32: on many CPUs OpenVINO would compute in bfloat16 of its own accord."""

    files = ("openvino_model.xml", "openvino_model.bin")
    library, extra = "openvino", "openvino"

    def _start(self, runtime: ModuleType) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1}
        self.model = runtime.Core().compile_model(str(self.directory / self.files[0]), "CPU", settings)
        self._inputs = [each.any_name for each in self.model.inputs]

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        """The graph's floating-point outputs."""
        results = self.model(self._feed(inputs, self._inputs))
        return _floats(torch.from_numpy(results[each]) for each in self.model.outputs)


class CTranslate2(ExportedRunner):
    """An encoder-decoder model in CTranslate2, which gives no logits: a run scores the target, token by token."""

    files = ("model.bin",)
    library, extra = "ctranslate2", "ctranslate2"

    def _start(self, runtime: ModuleType) -> None:
        self._translator = runtime.Translator(str(self.directory), "cpu", inter_threads=1, intra_threads=self.threads)
        self._source, self.vocabulary = _vocabularies(self.directory)
        # Without a token of its own to start the decoder, CTranslate2 takes the target's first: a language, in mBART.
        start = json.loads((self.directory / "config.json").read_text(encoding="utf-8"))["decoder_start_token"]
        self._first = 0 if start is None else 1

    def __call__(self, inputs: Inputs) -> list[Tensor]:
        """One tensor (batch, target): the log probability of each next token of the target, at last of its end.

        The first of `decoder_input_ids` starts the decoder and is no target; padding of `input_ids` is left out.
        """
        feed = self._feed(inputs, ["input_ids", "attention_mask", "decoder_input_ids"])
        source = [
            [self._source[token] for token, there in zip(ids, mask, strict=True) if there]
            for ids, mask in zip(feed["input_ids"].tolist(), feed["attention_mask"].tolist(), strict=True)
        ]
        target = [
            [self.vocabulary[token] for token in ids[self._first :]] for ids in feed["decoder_input_ids"].tolist()
        ]
        scored = self._translator.score_batch(source, target, max_input_length=0)
        return [torch.tensor([each.log_probs for each in scored])]


RUNTIMES: dict[str, type[Runner]] = {
    "pytorch": PyTorch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "ctranslate2": CTranslate2,
}
"""Runtime -> its runner. A directory goes to the first one whose files it holds."""


def open_model(source: str | Path, threads: int = 1) -> Runner:
    """Open a model for running: a directory in any of the forms of `RUNTIMES`, or a name on the Hub.

    Args:
        source: The directory or name.
        threads: CPU threads to run on.

    Raises:
        BadRecipe: The runtime is not installed, or there is no such model.
        CorruptCheckpoint: The directory cannot be read.
    """
    require_least(1, threads=threads)
    directory = Path(source)
    for kind in RUNTIMES.values():
        if any((directory / name).is_file() for name in kind.files):
            return kind.open(directory, threads)
    return PyTorch(load(source).eval(), threads)


def _floats(values: Iterable[object]) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]


def _vocabularies(directory: Path) -> tuple[list[str], list[str]]:
    """The tokens of source and target, which CTranslate2 writes once where they are the same."""

    def read(name: str) -> list[str]:
        tokens: list[str] = json.loads((directory / name).read_text(encoding="utf-8"))
        return tokens

    if (directory / "shared_vocabulary.json").is_file():
        shared = read("shared_vocabulary.json")
        return shared, shared
    return read("source_vocabulary.json"), read("target_vocabulary.json")
