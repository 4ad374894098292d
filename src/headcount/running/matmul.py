"""Float32 matrix products on CPUs where PyTorch's default is slow.

PyTorch computes them with MKL, which on AMD's CPUs is slower than oneDNN: by a tenth or by half, depending on
the CPU. Setting their precision to 'medium' sends them to oneDNN. The name promises less than float32, namely
bfloat16 inside, and CPUs with matrix units for it deliver just that; others stay float32. A probe tells.

Small products, below some 1e7 operations, can be slower this way: oneDNN takes more time to set each one up. PyTorch's
attention makes two for every head of every sentence, which take up to nine times as long; it keeps PyTorch's default.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SWITCH = "HEADCOUNT_FAST_MATMUL"
"""The environment variable whose value 0 switches `fast_matmul` off."""

FLOAT32_ERROR = 1e-5
"""Largest error of a float32 product, as a share of its largest entry. float32 makes 1e-6, bfloat16 1e-3."""

_ATTENTION = "scaled_dot_product_attention"
"""In `torch.nn.functional`, where transformers looks it up at every call."""

_Products = tuple[Float[Tensor, "..."], ...]


@dataclass(frozen=True)
class MatmulMode:
    """How float32 products are computed since `fast_matmul` was called. As a context manager, it restores.

    Attributes:
        name: `onednn` where the setting was changed, `default` where it was left.
        why: A sentence for people: what was done, and why.
    """

    name: str
    why: str
    _before: "_Settings | None" = field(default=None, repr=False)

    def restore(self) -> None:
        """Put PyTorch's setting back to what it was before; does nothing if it was left."""
        if self._before is not None:
            self._before.restore()

    def __enter__(self) -> "MatmulMode":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def fast_matmul(enabled: bool = True, device: torch.device | str = "cpu") -> MatmulMode:
    """Send float32 products to oneDNN for the rest of the process, if a probe proves that they stay float32.

    For a block only: `with fast_matmul(): ...`. The setting is PyTorch's own, for the whole process: while it
    stands, products on a CUDA device, should there be one, may use TF32, and
    `torch.nn.functional.scaled_dot_product_attention` is one that lifts it for itself. The random state is not touched.

    Args:
        enabled: False leaves everything as it is. So does the environment variable `HEADCOUNT_FAST_MATMUL=0`.
        device: Where the model runs; anything but the CPU leaves everything as it is.
    """
    if not enabled:
        return _left("the fast path is switched off")
    if os.environ.get(SWITCH) == "0":
        return _left(f"{SWITCH}=0")
    if torch.device(device).type != "cpu":
        return _left(f"the model runs on {torch.device(device).type}")
    onednn: Any = torch.backends.mkldnn
    if not (onednn.is_available() and onednn.enabled):
        return _left("this PyTorch runs without oneDNN")
    if matmul_precision() != "highest":
        return _left(f"their precision was set to '{matmul_precision()}' before")
    return _switch_if_exact()


def matmul_precision() -> str:
    """PyTorch's precision of float32 products: `highest`, `high`, `medium`; `mixed` if backends differ."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # PyTorch's answer where a setting for one backend contradicts the one for all
        return "mixed"


@dataclass(frozen=True)
class _Settings:
    """PyTorch's precision for all backends, and for each: what 'highest' writes there is not 'unset'; its attention."""

    precision: str
    backends: tuple[str, ...]
    attention: Callable[..., Tensor]

    @classmethod
    def now(cls) -> "_Settings":
        backends = tuple(each.fp32_precision for each in _backends())
        return cls(torch.get_float32_matmul_precision(), backends, vars(functional)[_ATTENTION])

    def restore(self) -> None:
        vars(functional)[_ATTENTION] = self.attention
        torch.set_float32_matmul_precision(self.precision)
        for backend, precision in zip(_backends(), self.backends, strict=True):
            backend.fp32_precision = precision


def _backends() -> list[Any]:
    """The settings of single backends that the one for all overwrites; PyTorch has them from 2.9 on."""
    onednn: Any = torch.backends.mkldnn
    return [onednn.matmul, torch.backends.cuda.matmul] if hasattr(onednn, "matmul") else []


def _left(reason: str) -> MatmulMode:
    return MatmulMode("default", f"float32 products as PyTorch has them: {reason}")


def _switch_if_exact() -> MatmulMode:
    before = _Settings.now()
    usual = _products(torch.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        found = _products(torch.float32)
        error = _relative_error(found, _products(torch.float64))
    except BaseException:
        before.restore()
        raise
    if not error < FLOAT32_ERROR:
        before.restore()
        return _left(f"oneDNN would not keep float32 on this CPU (probe error {error:.0e})")
    if all(torch.equal(a, b) for a, b in zip(usual, found, strict=True)):
        before.restore()
        return _left("this CPU computes them the same way with and without the setting")
    vars(functional)[_ATTENTION] = _apart(before.attention)
    why = f"float32 products through oneDNN (probe error {error:.0e}); {SWITCH}=0 switches this off"
    return MatmulMode("onednn", why, before)


def _apart(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same attention, with its products as PyTorch has them by default, forwards and backwards."""

    @wraps(attention)
    def apart(*args: object, **kwargs: object) -> Tensor:
        if torch.compiler.is_compiling():  # what is compiled or exported has no place for the setting
            return attention(*args, **kwargs)
        with default_matmul():
            out = attention(*args, **kwargs)
        node = out.grad_fn
        if node is not None and "Flash" in node.name():  # otherwise it is made of batched products, which are large
            lifted = default_matmul()
            node.register_prehook(lambda gradients: lifted.__enter__())
            node.register_hook(lambda *gradients: lifted.__exit__())
        return out

    return apart


class default_matmul:  # it reads like a function, as `torch.no_grad` does
    """Within the block, products are PyTorch's own again, where `fast_matmul` has switched: for many small ones."""

    def __enter__(self) -> None:
        self.on = matmul_precision() == "medium"
        if self.on:
            torch.set_float32_matmul_precision("highest")

    def __exit__(self, *error: object) -> None:
        if self.on:
            torch.set_float32_matmul_precision("medium")


def _products(dtype: torch.dtype) -> _Products:
    """The three products of a linear layer: its outputs, and the gradients of its inputs and weight."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu").to(dtype)

    x, weight, grad = draw(256, 512), draw(512, 512), draw(256, 512)
    return functional.linear(x, weight), grad @ weight, grad.t() @ x


def _relative_error(found: _Products, exact: _Products) -> float:
    """The largest error, as a share of the largest entry, of any of these products."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))
