"""Writing a model, pruned or not, in the formats of other runtimes, and checking that they compute the same."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from headcount.anatomy import survey
from headcount.directory.model_files import copy_beside, load
from headcount.errors import BadRecipe
from headcount.running.export.ctranslate2 import export_ctranslate2
from headcount.running.export.graph import Written
from headcount.running.export.onnx import export_onnx
from headcount.running.export.openvino import export_openvino
from headcount.running.libraries import library
from headcount.settings.writing import require_empty, writing_directory

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Exporter:
    """A format.

    Attributes:
        write: Writes a model into a directory, checks it, and says what it did.
        libraries: What has to be installed for that, in the extra of the format's name.
    """

    write: Callable[[Any, Path], Written]
    libraries: tuple[str, ...]


EXPORTERS: dict[str, Exporter] = {
    "onnx": Exporter(export_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "openvino": Exporter(export_openvino, ("onnx", "onnxscript", "openvino")),
    "ctranslate2": Exporter(export_ctranslate2, ("ctranslate2",)),
}
"""Format -> what writes it. A new format is one file and one row here, and its runtime one in `runtimes.RUNTIMES`."""


@dataclass(frozen=True)
class Exported:
    """An export that was written, and that computes what the model computes in PyTorch.

    Attributes:
        directory: Where it is.
        format: One of `EXPORTERS`.
        files: Name -> bytes.
        inputs: Names of what it takes.
        outputs: Names of what it gives.
        difference: The largest difference from PyTorch that was seen, as a share of the largest output (at least 1).
        checked: What was compared, in words.
        notes: What its user should know.
    """

    directory: Path
    format: str
    files: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float
    checked: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The export as plain data."""
        return {**asdict(self), "directory": str(self.directory)}


def export_model(source: str | Path, output: str | Path, to: str) -> Exported:
    """Write a model in another runtime's format, in float32, and check it against PyTorch before it gets its name.

    Beside the graph stand `config.json`, the tokenizer's files and `export.json`, which says how it was made.

    Args:
        source: A model directory, pruned or not, or a name on the Hub.
        output: Directory to write; new or empty.
        to: One of `EXPORTERS`.

    Raises:
        BadRecipe: There is no such format or model, a library is missing, or the output is not empty.
        UnsupportedModel: The format cannot hold the model, or headcount does not know its attention.
        ExportFailed: The export could not be made, or computes something else.
        CorruptCheckpoint: See `headcount.directory.model_files.load`.
    """
    if to not in EXPORTERS:
        raise BadRecipe(f"Unknown format '{to}'. Valid formats: {', '.join(EXPORTERS)}.")
    exporter = EXPORTERS[to]
    for name in exporter.libraries:
        library(name, to)
    require_empty(output)
    model = load(source).eval().float()
    survey(model)  # what is not known may compute anything
    model.config.dtype = torch.float32
    with writing_directory(output) as aside:
        model.config.save_pretrained(aside)
        copy_beside(source, aside)
        written = exporter.write(model, aside)
        description = {
            "format_version": FORMAT_VERSION,
            "format": to,
            **asdict(written),
            "versions": {name: version(name) for name in ("headcount", "torch", "transformers", *exporter.libraries)},
        }
        (aside / "export.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        files = {file.name: file.stat().st_size for file in sorted(aside.iterdir())}
    return Exported(directory=Path(output), format=to, files=files, **vars(written))
