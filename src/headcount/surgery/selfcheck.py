"""Surgery's check of itself: gated and cut model must compute the same, also while they generate."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from headcount.anatomy import LiveSite, heads_of
from headcount.anatomy.example import evaluating, generates
from headcount.errors import SurgeryFailed, UnsupportedModel
from headcount.gates.hooks import masked
from headcount.units.map import Subset

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest difference between gated and cut outputs, as a share of the largest output (at least 1), per data type."""

STEPS = 2
"""Tokens to generate. The second step reads the cache: its length is where a site without heads would show."""

HALF = 0.25
"""In half precision, also the largest difference of what a single head hands on, as a share of its largest value: in a
deep model rounding hides one wrong head of many in the outputs, but not where it is computed."""


@dataclass(frozen=True)
class Computed:
    """What a model computes of a batch.

    Attributes:
        outputs: See `outputs`.
        generated: See `generated`. None: it does not generate, or a warning said why not.
        heads: Site -> what its heads hand on at each pass, (..., head, head size).
    """

    outputs: Tensor
    generated: Tensor | None
    heads: Mapping[str, list[Tensor]]


@contextmanager
def _handed_on(sites: Sequence[LiveSite], subset: Subset) -> Iterator[dict[str, list[Tensor]]]:
    """Within the block, what the heads of the subset hand on to the output projections is written down."""
    found: dict[str, list[Tensor]] = {}

    def note(live: LiveSite, args: tuple[Tensor, ...]) -> None:
        places = [live.kept.index(head) for head in subset.at(live.site.name)]
        x = args[0].detach()
        by_head = x.reshape(*x.shape[:-1], len(live.kept), live.site.head_size)
        found.setdefault(live.site.name, []).append(by_head[..., places, :].float())

    handles = [
        live.output.register_forward_pre_hook(lambda module, args, live=live: note(live, args))
        for live in sites
        if subset.at(live.site.name)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What the model computes of these inputs in evaluation mode, without gradients.

    All floating-point outputs (logits, hidden state, embeddings) side by side, flattened.
    """
    with evaluating([model]), torch.no_grad():
        result: Any = model(**_there(model, inputs))
    values = result.values() if isinstance(result, Mapping) else result
    found = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return torch.cat([value.flatten() for value in found])


def _there(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch where the model is."""
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in inputs.items()}


def generated(model: Any, inputs: Mapping[str, Tensor], steps: int = STEPS) -> Tensor:
    """The logits of so many greedy steps of `generate`, with its cache. Shape: (batch, step, vocabulary)."""
    own = {name: value for name, value in _there(model, inputs).items() if name != "decoder_input_ids"}
    configured = model.generation_config
    model.generation_config = _plain_generation(model)
    try:
        with evaluating([model]), torch.no_grad():
            result: Any = model.generate(
                **own, max_new_tokens=steps, min_new_tokens=steps, do_sample=False,
                output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
    finally:
        model.generation_config = configured
    return torch.stack(result.logits, dim=1)


def _plain_generation(model: Any) -> GenerationConfig:
    """Greedy search with the model's special tokens, without what its owner prefers: beams, stop strings and such."""
    own, plain = vars(model.generation_config), GenerationConfig()
    # What a family adds (Whisper's languages) is no preference: its `generate` reads it.
    extra = {name: value for name, value in own.items() if name not in vars(plain)}
    tokens = {
        name: own.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    }
    if tokens["pad_token_id"] is None:
        tokens["pad_token_id"] = 0
    if tokens["decoder_start_token_id"] is None and getattr(model.config, "is_encoder_decoder", False):
        tokens["decoder_start_token_id"] = tokens["bos_token_id"] or tokens["pad_token_id"]
    return GenerationConfig(**tokens, **extra)


def _generated_if_it_can(model: Any, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """See `generated`. None: transformers does not generate with the model, or a warning says why it cannot here.

    Raises:
        UnsupportedModel: Generating fails, and the batch is not known to be the reason.
    """
    if not generates(model):
        return None
    try:
        return generated(model, inputs)
    except Exception as error:  # a class may raise anything
        name = type(model).__name__
        if (known := _cannot_begin(model, inputs)) is None:
            why = next(iter(str(error).splitlines()), "")
            raise UnsupportedModel(
                f"{name} cannot generate from the check's batch ({', '.join(inputs)}): {type(error).__name__}: {why}. "
                "Hand over a batch that it generates from: example={...}; or leave out the check: check=False."
            ) from error
    warnings.warn(f"The check did not compare what {name} generates: {known}.", stacklevel=2)
    return None


def _cannot_begin(model: Any, inputs: Mapping[str, Tensor]) -> str | None:
    """Why nobody generates from such a batch. None: no reason is known."""
    main = getattr(model, "main_input_name", "input_ids")
    if main not in inputs:
        return f"its batch has no '{main}'"
    text = model.config.get_text_config()
    if getattr(text, "add_cross_attention", False) and not model.config.is_encoder_decoder:
        return "a decoder with cross-attention generates only as a part of an encoder-decoder"
    places = getattr(text, "max_position_embeddings", None)
    length = inputs[main].shape[-1]
    if main == "input_ids" and places is not None and length + STEPS > places:
        return f"its batch has {length} tokens, which leaves no room for {STEPS} more of {places}"
    return None


def gated_outputs(model: Any, inputs: Mapping[str, Tensor], subset: Subset, sites: Sequence[LiveSite]) -> Computed:
    """What the model computes with all other heads gated off, and while it generates.

    Raises:
        UnsupportedModel: The model cannot run the batch, or generate from it; or it does not reach a site that is to
            lose heads: nothing would be compared there.
        SurgeryFailed: What it computes is not finite.
    """
    reached: set[str] = set()
    losing = {live.site.name: live for live in sites if len(subset.at(live.site.name)) < len(live.kept)}
    handles = [
        live.output.register_forward_hook(lambda *_, name=name: reached.add(name)) for name, live in losing.items()
    ]
    try:
        with masked(model, subset, sites):
            with _handed_on(sites, subset) as heads:
                expected = first_outputs(model, inputs)
            steps = _generated_if_it_can(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if missed := [name for name in losing if name not in reached]:
        raise UnsupportedModel(
            f"The check's batch ({', '.join(inputs)}) does not reach {len(missed)} sites that are to lose heads, "
            f"{missed[0]} among them. Hand over a batch that does: example={{...}}."
        )
    if not torch.isfinite(expected).all():
        raise SurgeryFailed(
            f"What {type(model).__name__} computes is not finite before any head is removed: there is nothing to "
            "compare. If it was trained, the training diverged: lower lr, or give a warm-up."
        )
    return Computed(expected, steps, heads)


def first_outputs(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """See `outputs`; here the model may be any, and the batch one that was made up.

    Raises:
        UnsupportedModel: The model cannot run the batch.
    """
    try:
        return outputs(model, inputs)
    except Exception as error:  # a class may want anything
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UnsupportedModel(
            f"{type(model).__name__} cannot run the check's batch ({', '.join(inputs)}): {why}. Hand over one that it "
            "can: example={...}."
        ) from error


def check_cut(model: Any, inputs: Mapping[str, Tensor], expected: Computed, sites: Sequence[LiveSite]) -> None:
    """Compare what the cut model computes; the sites are those that it has now.

    Raises:
        SurgeryFailed: It differs, or the cut model cannot be run.
    """
    gated, steps = expected.outputs, expected.generated
    dtype = next(model.parameters()).dtype
    try:
        with _handed_on(sites, heads_of(sites)) as heads:
            found = outputs(model, inputs)
        then = None if steps is None else generated(model, inputs)
    except Exception as error:
        raise SurgeryFailed(
            f"The cut model cannot be run: {type(error).__name__}: {error}. The model was put back as it was."
        ) from error
    _compare("outputs", gated, found, dtype)
    if dtype in (torch.float16, torch.bfloat16):
        _compare_heads(expected.heads, heads)
    if steps is not None and then is not None:
        _compare("first outputs while generating", steps[:, 0], then[:, 0], dtype)
        # Where rounding chose another first token (in half precision), the second step is about another text.
        same = steps[:, 0].argmax(-1) == then[:, 0].argmax(-1)
        _compare("outputs while generating", steps[same, 1:], then[same, 1:], dtype)


def _compare_heads(gated: Mapping[str, list[Tensor]], cut: Mapping[str, list[Tensor]]) -> None:
    for name, passes in gated.items():
        for before, after in zip(passes, cut.get(name, []), strict=False):
            others = [axis for axis in range(before.dim()) if axis != before.dim() - 2]
            size = before.abs().amax(others)
            # A head that hands on next to nothing has little but rounding to compare.
            share = (before - after).abs().amax(others) / torch.maximum(size, 0.1 * size.max()).clamp_min(1e-6)
            if not float(share.max()) <= HALF:
                raise SurgeryFailed(
                    f"After cutting, a head of site '{name}' hands on something else than before, by "
                    f"{float(share.max()):.0%}; allowed in half precision is {HALF:.0%}. The model was put back as it "
                    "was. If its attention was modified, headcount's table does not describe it; please report the "
                    "model's class."
                )


def _compare(what: str, gated: Tensor, cut: Tensor, dtype: torch.dtype) -> None:
    scale = max(1.0, float(gated.abs().max())) if gated.numel() else 1.0
    difference = float((gated - cut).abs().max()) / scale if gated.numel() else 0.0
    allowed = TOLERANCE.get(dtype, 1e-5)  # the model's own: generation casts its logits to float32
    if not difference <= allowed:
        raise SurgeryFailed(
            f"After cutting, the model's {what} differ from the gated model's by {difference:.1e}; allowed for "
            f"{dtype} is {allowed:.0e}. The model was put back as it was. If its attention was modified, "
            "headcount's table does not describe it; please report the model's class."
        )
