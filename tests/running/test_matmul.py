"""The switch to oneDNN: when it is made, when it is not, and that it can be taken back. True on every CPU."""

from collections.abc import Iterator

import pytest
import torch

from headcount.running import matmul
from headcount.running.matmul import MatmulMode, fast_matmul


def settings() -> tuple[str, str, str]:
    onednn, cuda = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    return torch.get_float32_matmul_precision(), onednn.fp32_precision, cuda.fp32_precision


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins without the switch, and must leave PyTorch's settings as it found them."""
    monkeypatch.delenv(matmul.SWITCH, raising=False)
    before = settings()
    yield
    assert settings() == before


def pretend(monkeypatch: pytest.MonkeyPatch, medium: float) -> None:
    """A CPU whose products are off by the factor 1 + `medium` under 'medium', and exact otherwise."""

    def products(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        fast = dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium"
        return tuple(torch.full((2, 2), value * (1 + medium * fast), dtype=dtype) for value in (1.0, 2.0, 4.0))

    monkeypatch.setattr(matmul, "_products", products)


def test_switches_where_float32_stays_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, medium=2e-6)
    mode = fast_matmul()
    try:
        assert mode.name == "onednn"
        assert mode.why == (
            "float32 products through oneDNN (probe error 2e-06); HEADCOUNT_FAST_MATMUL=0 switches this off"
        )
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        mode.restore()


@pytest.mark.parametrize("error", [1e-5, 4e-3, float("nan")])
def test_leaves_the_setting_where_precision_would_drop(monkeypatch: pytest.MonkeyPatch, error: float) -> None:
    pretend(monkeypatch, medium=error)
    mode = fast_matmul()
    assert mode.name == "default"
    assert "would not keep float32" in mode.why


def test_leaves_the_setting_where_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, medium=0.0)
    mode = fast_matmul()
    assert mode.name == "default"
    assert "with and without" in mode.why


def test_a_failing_probe_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(found: object, exact: object) -> float:
        raise MemoryError

    monkeypatch.setattr(matmul, "_relative_error", fails)
    with pytest.raises(MemoryError):
        fast_matmul()


def test_as_a_context_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, medium=1e-6)
    before = settings()
    with fast_matmul() as outer:
        assert torch.get_float32_matmul_precision() == "medium"
        with fast_matmul() as inner:
            assert inner.name == "default"
            assert "set to 'medium' before" in inner.why
        assert outer.name == "onednn"
        assert torch.get_float32_matmul_precision() == "medium"
    assert settings() == before


@pytest.mark.parametrize("masked", [False, True])
def test_attention_keeps_the_default_forwards_and_backwards(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    """To the last bit: its products are the same ones, whatever the setting does to others on this CPU."""
    pretend(monkeypatch, medium=1e-6)
    drawn = torch.Generator().manual_seed(3)
    mask = torch.rand(2, 1, 25, 25, generator=drawn) < 0.8 if masked else None

    def attend() -> tuple[torch.Tensor, ...]:
        inputs = [x.clone().requires_grad_() for x in values]
        out = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=mask)
        (out**2).sum().backward()
        return out, *(x.grad for x in inputs if x.grad is not None)

    values = torch.randn(3, 2, 4, 25, 32, generator=drawn).unbind()
    usual = attend()
    with fast_matmul() as mode:
        assert mode.name == "onednn"
        fast = attend()
        assert torch.get_float32_matmul_precision() == "medium"
    assert len(fast) == 4
    assert all(torch.equal(a, b) for a, b in zip(usual, fast, strict=True))


def test_attention_is_as_it_was_after_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, medium=1e-6)
    functional = torch.nn.functional
    before, x = functional.scaled_dot_product_attention, torch.randn(1, 2, 5, 8, requires_grad=True)
    with fast_matmul():
        assert functional.scaled_dot_product_attention is not before
        out = functional.scaled_dot_product_attention(x, x, x)
    assert functional.scaled_dot_product_attention is before
    out.sum().backward()  # its node was made within the block; nothing of the setting comes back with it


def test_on_this_cpu() -> None:
    """Whatever is decided here: products are of float32 precision, and the random state is as it was."""
    state = torch.get_rng_state()
    with fast_matmul() as mode:
        assert mode.name in ("onednn", "default")
        x = torch.randn(64, 256, generator=torch.Generator().manual_seed(5))
        exact = x.double() @ x.double().t()
        assert (x @ x.t() - exact).abs().max() / exact.abs().max() < matmul.FLOAT32_ERROR
    assert torch.equal(torch.get_rng_state(), state)


def test_the_probe_is_the_same_in_inference_mode_and_under_other_defaults() -> None:
    usual = matmul._products(torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            again = matmul._products(torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(usual, again, strict=True))


def test_bfloat16_would_be_noticed() -> None:
    """The bound lies between what float32 and what bfloat16 inputs give."""
    exact = matmul._products(torch.float64)
    assert matmul._relative_error(matmul._products(torch.float32), exact) < matmul.FLOAT32_ERROR
    rounded = matmul._products(torch.bfloat16)
    assert matmul._relative_error(rounded, exact) > 100 * matmul.FLOAT32_ERROR


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_matmul(enabled=False).name == "default"
    monkeypatch.setenv(matmul.SWITCH, "0")
    mode = fast_matmul()
    assert mode == MatmulMode("default", "float32 products as PyTorch has them: HEADCOUNT_FAST_MATMUL=0")


def test_never_for_another_device() -> None:
    assert "runs on cuda" in fast_matmul(device="cuda:0").why
    assert "runs on mps" in fast_matmul(device=torch.device("mps")).why


def test_a_choice_made_before_stands() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        assert "set to 'high' before" in fast_matmul().why
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.mkldnn.matmul.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_a_choice_made_for_one_backend_stands() -> None:
    """Such a choice makes PyTorch refuse to name one precision for all."""
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        assert matmul.matmul_precision() == "mixed"
        assert "set to 'mixed' before" in fast_matmul().why
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = "none"
