"""The decoder of a translation model: attention or an SSRU over the target, attention to the source."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor, nn

from headcount.nmt.attention import AttentionState, attention
from headcount.nmt.configuration import TranslatorConfig
from headcount.nmt.layers import FeedForward, Residual
from headcount.nmt.ssru import SSRU


@dataclass
class LayerState:
    """The state of a decoder layer during translation.

    Attributes:
        past: State of the target so far: keys and values, (sentence x beam, ...), or an SSRU's state,
            (sentence, beam, model).
        source: Keys and values of the source, (sentence, ...). All hypotheses of a sentence share them.
    """

    past: AttentionState | Tensor | None = None
    source: AttentionState = field(default_factory=AttentionState)


@dataclass
class Decoding:
    """The state of a batch during translation.

    Attributes:
        memory: Output of the encoder, (sentence, token, model).
        memory_mask: Mask of the padding in it, as the attention implementation expects. None: there is no padding.
        layers: State of each decoder layer.
        places: Position embeddings of the target, (position, model). `step` makes more when they run out.
        position: Position of the next token.
        project: Output layer: (..., model) -> (..., candidate).
    """

    memory: Tensor
    memory_mask: Tensor | None
    layers: list[LayerState]
    places: Tensor
    position: int
    project: Callable[[Tensor], Tensor]

    def select(self, sentences: Int[Tensor, " kept"], hypotheses: Int[Tensor, "kept beam"]) -> None:
        """Keep the given sentences and hypotheses, in the given order.

        Args:
            sentences: Indices of the kept sentences, ascending.
            hypotheses: Indices of the kept hypotheses of each sentence, counted within the sentence.
        """
        beam = hypotheses.shape[1]
        flat = (sentences[:, None] * beam + hypotheses).flatten()
        fewer = len(sentences) < len(self.memory)
        for layer in self.layers:
            if isinstance(layer.past, Tensor):
                layer.past = layer.past.flatten(0, 1).index_select(0, flat).view(-1, beam, layer.past.shape[-1])
            elif layer.past is not None:
                layer.past.select(flat)
        if fewer:
            self.memory = self.memory.index_select(0, sentences)
            if self.memory_mask is not None:
                self.memory_mask = self.memory_mask.index_select(0, sentences)
            for source in {id(layer.source): layer.source for layer in self.layers}.values():
                source.select(sentences)


class DecoderLayer(nn.Module):
    """A decoder layer: self-attention or an SSRU, attention to the source, and a feed-forward layer."""

    def __init__(self, config: TranslatorConfig, heads: int, cross_heads: int) -> None:
        super().__init__()
        if config.decoder_type == "ssru":
            self.ssru = SSRU(config.d_model)
        else:
            self.self_attn = attention(config, heads, is_decoder=True, is_causal=True)
        self.past_residual = Residual(config)
        self.cross_attn = attention(config, cross_heads, is_decoder=True)
        self.cross_attn_residual = Residual(config)
        self.ffn = FeedForward(config)
        self.ffn_residual = Residual(config)

    def forward(
        self, x: Float[Tensor, "batch token model"], mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """Process all tokens at once. Shape: (batch, token, model) -> (batch, token, model)."""
        look_back = self.ssru if hasattr(self, "ssru") else lambda y: self.self_attn(y, attention_mask=mask)[0]
        x = self.past_residual(x, look_back)
        x = self.cross_attn_residual(x, lambda y: self.cross_attn(y, memory, memory_mask)[0])
        out: Tensor = self.ffn_residual(x, self.ffn)
        return out

    def step(
        self, x: Float[Tensor, "sentence beam model"], state: LayerState, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """Process the next token of every hypothesis. Shape: (sentence, beam, model) -> (sentence, beam, model)."""
        x = self.past_residual(x, lambda y: self._look_back(y, state))
        # The hypotheses of a sentence are queries of one batch row. They share the keys and values of the source.
        x = self.cross_attn_residual(x, lambda y: self.cross_attn(y, memory, memory_mask, state.source)[0])
        out: Tensor = self.ffn_residual(x, self.ffn)
        return out

    def _look_back(self, x: Tensor, state: LayerState) -> Tensor:
        if hasattr(self, "ssru"):
            assert not isinstance(state.past, AttentionState)
            out, state.past = self.ssru.step(x, state.past)
            return out
        if state.past is None:
            state.past = AttentionState()
        looked: Tensor = self.self_attn(x.reshape(-1, 1, x.shape[-1]), state=state.past)[0].view_as(x)
        return looked


class Decoder(nn.Module):
    """The decoder layers, and a final normalisation for pre-norm. Tied layers are one layer, applied repeatedly."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        pairs = zip(config.heads("decoder_heads"), config.heads("cross_heads"), strict=True)
        self.layers = nn.ModuleList([DecoderLayer(config, heads, cross_heads) for heads, cross_heads in pairs])
        self.rounds = config.decoder_layers // config.built_decoder_layers
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.norm == "pre" else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch token model"], mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """Process all tokens at once. Shape: (batch, token, model) -> (batch, token, model)."""
        for layer in [*self.layers] * self.rounds:
            x = layer(x, mask, memory, memory_mask)
        out: Tensor = self.norm(x)
        return out

    def start(self) -> list[LayerState]:
        """Return the state before the first token. Tied layers share keys and values of the source only."""
        sources = [AttentionState() for _ in self.layers]
        return [LayerState(source=source) for _ in range(self.rounds) for source in sources]

    def step(
        self,
        x: Float[Tensor, "sentence beam model"],
        states: list[LayerState],
        memory: Tensor,
        memory_mask: Tensor | None,
    ) -> Tensor:
        """Process the next token of every hypothesis. Shape: (sentence, beam, model) -> (sentence, beam, model)."""
        for layer, state in zip([*self.layers] * self.rounds, states, strict=True):
            x = layer.step(x, state, memory, memory_mask)
        out: Tensor = self.norm(x)
        return out
