"""The configuration of our own translation models, and presets for the shapes that the papers use."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field
from transformers import PreTrainedConfig

from headcount.errors import BadRecipe
from headcount.settings.schema import Count, Positive, Rest, Setting

Width = Annotated[int, Field(ge=4)]


class TranslatorConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped here
    """The shape of an encoder-decoder Transformer (Vaswani et al. 2017), with a decoder of attention or an SSRU.

    Attributes:
        vocab_size: Number of pieces in the vocabulary, which both languages share.
        d_model: Width of the model.
        encoder_layers: Number of encoder layers.
        decoder_layers: Number of decoder layers.
        encoder_heads: Heads of each layer's self-attention: one number, or a list with a number for each layer. A layer
            with zero heads keeps the bias of its output projection.
        decoder_heads: Heads of each decoder layer's self-attention, given likewise. An SSRU has no heads.
        cross_heads: Heads of each decoder layer's attention to the encoder, given likewise.
        head_size: Width of a head. It need not fit d_model. None: d_model / encoder_heads.
        ffn_size: Width of the feed-forward layers.
        decoder_type: How the decoder reads earlier target tokens: `attention`, or `ssru` (Kim et al. 2019).
        tied_decoder_layers: Whether all decoder layers share their weights. Each layer still keeps its own state.
        tied_embeddings: What shares a matrix: `all` (source, target, output), `decoder` (target, output) or `none`.
        norm: Place of layer normalisation: `post`, after the residual, or `pre`, before the sublayer.
        activation: Activation function of the feed-forward layers.
        dropout: Dropout of embeddings and of every sublayer's output.
        attention_dropout: Dropout of attention weights.
        activation_dropout: Dropout inside feed-forward layers.
        label_smoothing: Share of the target's probability that training spreads over the vocabulary.
        layer_norm_eps: Constant that layer normalisation adds to the variance.
    """

    __no_type_check__ = True  # transformers makes it a dataclass and calls it with more than its fields
    model_type = "headcount_translator"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 transformers adds a list to it

    vocab_size: Width = 32000
    d_model: Width = 512
    encoder_layers: Count = 6
    decoder_layers: Count = 6
    encoder_heads: int | list[int] = 8
    decoder_heads: int | list[int] = 8
    cross_heads: int | list[int] = 8
    head_size: Count | None = None
    ffn_size: Count = 2048
    decoder_type: Literal["attention", "ssru"] = "attention"
    tied_decoder_layers: bool = False
    tied_embeddings: Literal["all", "decoder", "none"] = "all"
    norm: Literal["post", "pre"] = "post"
    activation: Literal["relu", "gelu", "silu"] = "relu"
    dropout: Rest = 0.1
    attention_dropout: Rest = 0.0
    activation_dropout: Rest = 0.0
    label_smoothing: Rest = 0.1
    layer_norm_eps: Positive = 1e-6
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False  # a shared matrix is one parameter, so transformers has nothing to tie
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2
    decoder_start_token_id: int = 1

    def __post_init__(self, **kwargs: object) -> None:
        for setting in _declared():
            setting.read(getattr(self, setting.name))
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise BadRecipe(f"Got {name} {getattr(self, name)}. Give a piece, 0 to {self.vocab_size - 1}.")
        if self.d_model % 2:
            raise BadRecipe(f"Got d_model {self.d_model}. Give an even number: half of a position is sines.")
        if self.head_size is None:
            heads = self.encoder_heads
            if isinstance(heads, list) and len(heads) != self.encoder_layers:
                raise BadRecipe(
                    f"'encoder_heads' is {heads}, for {self.encoder_layers} layers. Give a number, or one a layer."
                )
            if not isinstance(heads, int) or heads < 1 or self.d_model % heads:
                raise BadRecipe(
                    f"Cannot tell the size of a head from {heads} heads and d_model {self.d_model}. Give head_size."
                )
            self.head_size = self.d_model // heads
        for name, layers in (
            ("encoder_heads", self.encoder_layers),
            ("decoder_heads", self.built_decoder_layers),
            ("cross_heads", self.built_decoder_layers),
        ):
            counts = self.heads(name)
            if len(counts) != layers or any(count < 0 for count in counts):
                raise BadRecipe(
                    f"'{name}' is {getattr(self, name)}, for {layers} layers. Give a number, or one a layer."
                )
        super().__post_init__(**kwargs)

    @property
    def built_decoder_layers(self) -> int:
        """Return the number of decoder layers with weights of their own. Tied layers count as one."""
        return 1 if self.tied_decoder_layers else self.decoder_layers

    def heads(self, name: str) -> list[int]:
        """Return the heads of each layer with weights, for `encoder_heads`, `decoder_heads` or `cross_heads`."""
        given: int | list[int] = getattr(self, name)
        layers = self.encoder_layers if name == "encoder_heads" else self.built_decoder_layers
        return [given] * layers if isinstance(given, int) else list(given)


@cache
def _declared() -> list[Setting]:
    """Return the settings declared here, without those that transformers declares."""
    return [Setting(name, name, kind, None, "") for name, kind in TranslatorConfig.__annotations__.items()]


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "transformer-base": {"head_size": 64},
    "transformer-big": {
        "d_model": 1024, "encoder_heads": 16, "decoder_heads": 16, "cross_heads": 16, "head_size": 64, "ffn_size": 4096,
    },
    "iwslt_de_en": {
        "encoder_heads": 4, "decoder_heads": 4, "cross_heads": 4, "head_size": 128, "ffn_size": 1024, "dropout": 0.3,
        "tied_embeddings": "decoder",
    },
    "tiny-student": {
        "d_model": 256, "head_size": 32, "ffn_size": 1536, "decoder_layers": 2, "decoder_type": "ssru",
        "tied_decoder_layers": True, "dropout": 0.0, "label_smoothing": 0.0,
    },
}  # fmt: skip
"""Shapes by name: Vaswani et al. 2017; Li et al. 2021 (6+6 layers of 4 heads); Behnke and Heafield 2020, section 4."""
