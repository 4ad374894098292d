"""Optional libraries, imported when they are needed; and PyTorch's threads, within a block."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

from headcount.errors import BadRecipe


def library(name: str, extra: str) -> ModuleType:
    """An optional library, imported.

    Raises:
        BadRecipe: It is not installed; the message names the extra that brings it.
    """
    try:
        with _no_reports():
            return importlib.import_module(name)
    except ImportError as error:
        raise BadRecipe(f"This needs {name}, which is not installed. Run: pip install 'headcount[{extra}]'") from error


@contextmanager
def _no_reports() -> Iterator[None]:
    """Nothing imported in here finds OpenVINO's telemetry: its mere import would report over the network.

    OpenVINO makes do with a stub of its own then. Whoever imported it before has decided otherwise, and that stays.
    """
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say: cannot be imported
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """That many CPU threads for PyTorch in here."""
    before = torch.get_num_threads()
    if before == number:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
