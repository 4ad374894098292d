"""Whether weights and data are the same, bit for bit: digests that travel without them, and comparison of tensors."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import replace

import pyarrow
import torch
from datasets import Dataset
from torch import Tensor, nn

from headcount.anatomy import LiveSite
from headcount.surgery.cut import cut

NARROW = ("bfloat16", "float16")
"""The data types that weights are narrowed to when a model is loaded in half precision."""


def fingerprint(live: LiveSite, kept: list[int], wanted: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """Digests of a site's attention weights as they are once it keeps these heads, by data type.

    Of what stays, not of the whole base: so a plan can be made from the pruned model alone, it goes with a base that
    lost other heads already, and, site by site, with a part of a model. A base that is loaded in half precision is the
    same base: hence a digest for each narrower data type; weights read wider than they were narrow to the same bits.

    Args:
        live: The site, with the heads it has now. It is not changed.
        kept: The heads it is to keep.
        wanted: Digests to compare with. None: give all that a plan holds.

    Returns:
        The digests, or of `wanted` the one in the data type of the weights, or else in the first it names. None: there
        are no weights, on the meta device.
    """
    if any(parameter.is_meta for parameter in live.attention.parameters()):
        return None
    own = name_of(live.output.weight.dtype)
    all_ = [own, *(dtype for dtype in NARROW if dtype != own)]
    dtypes = all_ if wanted is None else [own if own in wanted else next(iter(wanted))]
    attention = copy.deepcopy(live.attention)
    cut(replace(live, attention=attention, core=attention.get_submodule(live.row.core)), kept)
    return {dtype: digest(attention, getattr(torch, dtype)) for dtype in dtypes}


def digest(module: nn.Module, dtype: torch.dtype | None = None) -> str:
    """128 bits of SHA-256 over the name, shape and bytes of every parameter, in the order of names.

    It is exact, and as fast as hashing the weights once, which is less than loading them takes.

    Args:
        module: Any part of a model.
        dtype: Take the weights as this data type. None: as they are.
    """
    sha = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        sha.update(f"{name} {tuple(parameter.shape)}".encode())
        sha.update(_bits(parameter if dtype is None else parameter.to(dtype)).numpy().data)
    return sha.hexdigest()[:32]


def dataset_digest(examples: Dataset | None) -> str:
    """SHA-256 over the columns of a data set, in their order; the same for the same examples, whatever made them."""
    sha = hashlib.sha256()
    for table in [] if examples is None else examples.with_format("arrow").iter(batch_size=10_000):
        sink = pyarrow.BufferOutputStream()
        plain = table.replace_schema_metadata(None).combine_chunks()
        with pyarrow.ipc.new_stream(sink, plain.schema) as stream:
            stream.write_table(plain)
        sha.update(sink.getvalue())
    return sha.hexdigest()[:32]


def difference(tensor: Tensor, other: Tensor | None) -> str | None:
    """How a parameter differs from another, to be followed by `in ...`; None if they are the same bit for bit."""
    if other is None:
        return "is not"
    if tensor.shape != other.shape:
        return f"has shape {list(tensor.shape)}, but {list(other.shape)}"
    if tensor.dtype != other.dtype:
        return f"has data type {name_of(tensor.dtype)}, but {name_of(other.dtype)}"
    return None if torch.equal(_bits(tensor), _bits(other)) else "has other values than"


def name_of(dtype: torch.dtype) -> str:
    """A data type's name, as in `torch.<name>`."""
    return str(dtype).removeprefix("torch.")


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
