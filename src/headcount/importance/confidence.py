"""Importance of a head as its confidence: the weight it gives to the one position it attends to most.

Behnke and Heafield 2020, section 3, after Voita et al. 2019. It works under any attention implementation. Scoring
replaces attention by a function that is registered through transformers' own interface. The function calls the model
family's plain implementation, reads one layer's weights of one batch at a time, and keeps only sums.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import eager_mask

from headcount.anatomy import survey
from headcount.anatomy.example import evaluating
from headcount.anatomy.forwards import ConfigView
from headcount.anatomy.survey import LiveSite
from headcount.errors import BadData, UnsupportedModel
from headcount.gates.hooks import masked
from headcount.units.map import Head, HeadMap, Site, Subset

NAME = "headcount_confidence"
_listener: ContextVar[Callable[[nn.Module, Tensor], None] | None] = ContextVar("headcount_listener", default=None)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: object
) -> tuple[Tensor, None]:
    """Compute attention by the family's own plain implementation, and pass its weights to the listener."""
    plain = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
    output, weights = plain(module, query, key, value, mask, **options)
    if (listener := _listener.get()) is not None:
        listener(module, weights)
    return output, None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


@dataclass(frozen=True)
class Confidence:
    """The maximum attention weight of a query position, averaged over all positions except padding.

    With labels or decoder inputs in the batches, decoders run under teacher forcing. The authors' code reads the
    weights during translation, over all hypotheses of the beam.

    Attributes:
        exclude_last: Leave out the last position of every text, its end-of-sentence token, as Voita et al. do; Behnke
            and Heafield's code counts it.
    """

    needs_examples: ClassVar[bool] = True
    exclude_last: bool = False

    def scores(
        self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]], subset: Subset
    ) -> Float64[Tensor, " head"]:
        """Return one score in [0, 1] for each head of the subset, in flat order, with all other heads gated off.

        Args:
            model: A trained model. Its weights, mode and attention implementation do not change.
            batches: Batches on the model's device; positions whose mask is 0 are padding.
            subset: The heads that remain.

        Raises:
            BadData: There is no batch.
            UnsupportedModel: The attention weights of some site cannot be read.
        """
        sites = {id(live.core): live for live in survey(model)}
        total = torch.zeros(len(subset.head_map), dtype=torch.float64)
        count = torch.zeros_like(total)
        batch: Mapping[str, Tensor] = {}

        def listen(core: nn.Module, weights: Tensor) -> None:
            live = sites[id(core)]
            positions = self._positions(model, batch, live.site, weights)
            flat = [subset.head_map.index(Head(live.site.name, head)) for head in live.kept]
            best = weights.detach().amax(-1).double() * positions[:, None]  # (batch, head, query)
            total[flat] += best.sum((0, 2)).cpu()
            count[flat] += float(positions.sum())

        with evaluating([model]), masked(model, subset), torch.no_grad(), _read_by(model, listen):
            for batch in batches:
                model(**batch)
        if not batch:
            raise BadData("No examples to measure confidence on.")
        _require_heard(subset.head_map, subset, count, sites)
        return (total / count.clamp_min(1))[list(subset.indices)]

    def _positions(
        self, model: PreTrainedModel, batch: Mapping[str, Tensor], site: Site, weights: Tensor
    ) -> Bool[Tensor, "batch query"]:
        """Return which query positions count."""
        shape = (weights.shape[0], weights.shape[2])
        positions = torch.ones(shape, dtype=torch.bool, device=weights.device)
        mask = _mask(model, batch, site, shape)
        if mask is not None and tuple(mask.shape) == shape:
            positions = mask.bool()
        elif mask is not None and not mask.all():
            raise UnsupportedModel(
                f"Cannot tell which positions of '{site.name}' are padding: it looks from {shape[1]} positions of "
                f"{shape[0]} examples, and the mask has the shape {tuple(mask.shape)}. Give batches without padding."
            )
        if self.exclude_last:
            positions = positions & (positions.flip(1).cumsum(1).flip(1) > 1)
        return positions


def _mask(model: PreTrainedModel, batch: Mapping[str, Tensor], site: Site, shape: tuple[int, int]) -> Tensor | None:
    """Return the mask of a site's query positions, if it has one."""
    if "pixel_values" in batch and "vision" in site.name:
        return None  # the mask is that of the text beside the image
    mask = batch.get("attention_mask")
    if site.kind != "encoder" and getattr(model.config, "is_encoder_decoder", False):
        labels = batch.get("labels")
        if "decoder_attention_mask" in batch:
            return batch["decoder_attention_mask"]
        # A classifier's decoder reads the encoder's text again, and its labels are no text.
        return labels != -100 if labels is not None and tuple(labels.shape) == shape else mask
    if mask is not None and mask.shape[-1] != shape[1]:  # of samples of sound, of which many make a position
        for module in model.modules():
            if hasattr(module, "_get_feature_vector_attention_mask"):
                frames: Tensor = module._get_feature_vector_attention_mask(shape[1], mask)
                return frames
    return mask


@contextmanager
def _read_by(model: nn.Module, listener: Callable[[nn.Module, Tensor], None]) -> Iterator[None]:
    """Pass attention weights to the listener within the block."""
    configs = {id(config): config for module in model.modules() for config in _configs(getattr(module, "config", None))}
    before = [(config, config._attn_implementation) for config in configs.values()]
    token = _listener.set(listener)
    try:
        for config, _ in before:
            config._attn_implementation_internal = NAME
        yield
    finally:
        _listener.reset(token)
        for config, implementation in before:
            config._attn_implementation_internal = implementation


def _configs(config: PreTrainedConfig | ConfigView | None) -> Iterator[PreTrainedConfig]:
    if config is None:
        return
    config = getattr(config, "headcount_config", config)
    yield config
    for name in getattr(config, "sub_configs", {}):
        yield from _configs(getattr(config, name, None))


def _require_heard(head_map: HeadMap, subset: Subset, count: Tensor, sites: Mapping[int, LiveSite]) -> None:
    silent = {head.site for head in subset if count[head_map.index(head)] == 0}
    if silent:
        live = next(live for live in sites.values() if live.site.name in silent)
        raise UnsupportedModel(
            f"The attention of {len(silent)} sites cannot be read, '{live.site.name}' ({type(live.core).__name__}) "
            "among them: it does not go through transformers' attention interface, or the batches do not reach it. "
            "Score heads by another importance: gradient, magnitude."
        )
