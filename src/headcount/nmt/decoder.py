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
    """What a decoder layer remembers while it translates.

    Attributes:
        past: Of the target so far: keys and values, (sentence x beam, ...), or an SSRU's state,
            (sentence, beam, model).
        source: Keys and values of the source, (sentence, ...): all hypotheses of a sentence share them.
    """

    past: AttentionState | Tensor | None = None
    source: AttentionState = field(default_factory=AttentionState)


@dataclass
class Decoding:
    """Where the translation of a batch stands.

    Attributes:
        memory: What the encoder made of the source, (sentence, token, model).
        memory_mask: What of it is padding, as the attention implementation wants it. None: nothing.
        layers: What each decoder layer remembers.
        places: Positions of the target, (position, model); more are made when they run out.
        position: Of the next token.
        project: The output layer: (..., model) -> (..., candidate).
    """

    memory: Tensor
    memory_mask: Tensor | None
    layers: list[LayerState]
    places: Tensor
    position: int
    project: Callable[[Tensor], Tensor]

    def select(self, sentences: Int[Tensor, " kept"], hypotheses: Int[Tensor, "kept beam"]) -> None:
        """Keep these sentences, and of each these hypotheses, in this order.

        Args:
            sentences: Numbers of the sentences that stay, ascending.
            hypotheses: For each of them, numbers of the hypotheses, counted within the sentence.
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
    """A look back over the target, attention to the source, and a feed-forward layer."""

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
        """All tokens at once. Shape: (batch, token, model) -> (batch, token, model)."""
        look_back = self.ssru if hasattr(self, "ssru") else lambda y: self.self_attn(y, attention_mask=mask)[0]
        x = self.past_residual(x, look_back)
        x = self.cross_attn_residual(x, lambda y: self.cross_attn(y, memory, memory_mask)[0])
        out: Tensor = self.ffn_residual(x, self.ffn)
        return out

    def step(
        self, x: Float[Tensor, "sentence beam model"], state: LayerState, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """The next token of every hypothesis. Shape: (sentence, beam, model) -> (sentence, beam, model)."""
        x = self.past_residual(x, lambda y: self._look_back(y, state))
        # To the source, the hypotheses of a sentence are so many queries: its keys and values stand there once.
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
    """All layers; with pre-norm, a last normalisation. Tied layers are one layer, gone through again and again."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        pairs = zip(config.heads("decoder_heads"), config.heads("cross_heads"), strict=True)
        self.layers = nn.ModuleList([DecoderLayer(config, heads, cross_heads) for heads, cross_heads in pairs])
        self.rounds = config.decoder_layers // config.built_decoder_layers
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.norm == "pre" else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch token model"], mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None
    ) -> Tensor:
        """All tokens at once. Shape: (batch, token, model) -> (batch, token, model)."""
        for layer in [*self.layers] * self.rounds:
            x = layer(x, mask, memory, memory_mask)
        out: Tensor = self.norm(x)
        return out

    def start(self) -> list[LayerState]:
        """The state before the first token. Tied layers keep a state each, but look at the source alike."""
        sources = [AttentionState() for _ in self.layers]
        return [LayerState(source=source) for _ in range(self.rounds) for source in sources]

    def step(
        self,
        x: Float[Tensor, "sentence beam model"],
        states: list[LayerState],
        memory: Tensor,
        memory_mask: Tensor | None,
    ) -> Tensor:
        """The next token of every hypothesis. Shape: (sentence, beam, model) -> (sentence, beam, model)."""
        for layer, state in zip([*self.layers] * self.rounds, states, strict=True):
            x = layer.step(x, state, memory, memory_mask)
        out: Tensor = self.norm(x)
        return out
