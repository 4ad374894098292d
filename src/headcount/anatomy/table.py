"""Where attention lives: one row per attention class. A new model family is one row here (docs/add-a-family.md).

The rows are facts, read by one engine (`anatomy/survey.py`, `surgery/cut.py`); no code anywhere asks for a model type.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from headcount.anatomy.projections import Layout, separate
from headcount.errors import UnsupportedModel

CROSS_NAMES = ("encoder_attn", "EncDecAttention", "crossattention", "cross_attn")
"""What decoders call their cross-attention, where the module itself does not say what it is."""


def kind_of(name: str, attention: nn.Module) -> str:
    """`encoder`, `decoder` or `cross`, by what nearly all families write on the module."""
    if name.rpartition(".")[2] in CROSS_NAMES or getattr(attention, "is_cross_attention", False):
        return "cross"
    marks = (getattr(module, mark, False) for module in (attention, getattr(attention, "self", None))
             for mark in ("is_causal", "is_decoder"))  # fmt: skip
    return "decoder" if any(mark is True for mark in marks) else "encoder"


def always_decoder(name: str, attention: nn.Module) -> str:
    """The kind of a site whose class only ever sits in a decoder, and does not say so."""
    return "decoder"


@runtime_checkable
class Core(Protocol):
    """The module that computes the heads of a site. Its attributes have the names that its family gives them."""

    training: bool

    def __getattr__(self, name: str) -> Any: ...


After = Callable[[Core, Tensor, Mapping[str, Any]], Tensor]


@dataclass(frozen=True)
class Row:
    """What the engine must know of one attention class.

    Attributes:
        inputs: The projections of queries, keys and values, as paths below `core`; or what gives them for a module,
            where a family has several layouts.
        output: Path of the output projection below the attention module. The heads' outputs enter it side by side.
        rewrite: Attributes of `core` that change when heads go, and what they hold: `heads`, `kv_heads`, `group`
            (heads per key/value head) or `width` (heads x head size). `config.NAME` is an entry of the configuration
            that the forward pass reads: the module gets a view of it, and the configuration stays as it is.
        head_size: Attribute of `core` that holds the head size; never rewritten.
        core: Path, below the attention module, of the module that computes the heads. Empty: the module itself.
        per_head_arguments: Arguments of `core` that may have one entry per head of the unpruned model, made elsewhere:
            a position bias. They are narrowed to the kept heads on entry. Heads are on axis 1 of 4, or fused with the
            batch on axis 0 of 3.
        bias: A position bias that `core` itself computes by `compute_bias` from a table with a column per head:
            `shared` with all later layers, which get it as `position_bias` (T5), or its `own`. The table stays whole.
        after: What `core` does between its output projection and its return: of the core, the projected heads and the
            call's arguments. None: nothing.
        returns: How many values `core` returns; the first is the attention's output.
        layer_at: Which number in the module's path is the layer's.
        kind: Tells `encoder`, `decoder` or `cross` of an attention module and its path.
    """

    inputs: Layout | Callable[[nn.Module], Layout]
    output: str
    rewrite: Mapping[str, str] = field(default_factory=dict)
    head_size: str = "head_dim"
    core: str = ""
    per_head_arguments: tuple[str, ...] = ()
    bias: str | None = None
    after: After | None = None
    returns: int = 2
    layer_at: int = -1
    kind: Callable[[str, nn.Module], str] = kind_of

    def layout(self, core: nn.Module) -> Layout:
        """The projections of this module."""
        return self.inputs if isinstance(self.inputs, Layout) else self.inputs(core)

    @property
    def output_in_core(self) -> str | None:
        """Path of the output projection below `core`, or None where the family keeps it outside."""
        if not self.core:
            return self.output
        return self.output.removeprefix(self.core + ".") if self.output.startswith(self.core + ".") else None


def _gpt2_layout(core: nn.Module) -> Layout:
    crossing = bool(getattr(core, "is_cross_attention", False))
    return Layout({"c_attn": "kv", "q_attn": "q"} if crossing else {"c_attn": "qkv"})


def _falcon_layout(core: Core) -> Layout:
    # The first Falcons (7B) share one key/value head among all heads and stack; the others interleave.
    return Layout({"query_key_value": "qkv"}, interleaved=core.new_decoder_architecture or not core.multi_query)


def _bloom_layout(core: Core) -> Layout:
    if core.slow_but_exact and core.pretraining_tp > 1:
        raise UnsupportedModel(
            "BLOOM with slow_but_exact and pretraining_tp > 1 reads the weights of its output projection without "
            "calling it, so its heads can be neither gated nor cut. Set slow_but_exact to False in its configuration."
        )
    return Layout({"query_key_value": "qkv"}, interleaved=True)


def _norm_of_sum(core: Core, projected: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    total: Tensor = core.LayerNorm(arguments["hidden_states"] + core.output_dropout(projected))
    return total


def _plus_residual(core: Core, projected: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    dropped = nn.functional.dropout(projected, core.hidden_dropout, core.training)
    total: Tensor = arguments["residual"] + dropped
    return total


def _dropout(name: str) -> After:
    return functools.partial(_dropped, name)  # not a closure: models are pickled


def _dropped(name: str, core: Core, projected: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    dropped: Tensor = getattr(core, name)(projected)
    return dropped


_BERT_SIZES = {"num_attention_heads": "heads", "all_head_size": "width"}
BERT = Row(separate("query", "key", "value"), "output.dense", _BERT_SIZES, "attention_head_size", core="self")
DISTILBERT = Row(separate("q_lin", "k_lin", "v_lin"), "out_lin", {"n_heads": "heads"}, "attention_head_size")
MPNET = Row(separate("q", "k", "v"), "o", _BERT_SIZES, "attention_head_size", per_head_arguments=("position_bias",))
ALBERT = Row(separate("query", "key", "value"), "dense", _BERT_SIZES, "attention_head_size", after=_norm_of_sum)
DEBERTA = Row(
    Layout(
        {"query_proj": "q", "key_proj": "k", "value_proj": "v", "pos_key_proj": "q", "pos_query_proj": "q"},
        optional=("pos_key_proj", "pos_query_proj"),  # absent where positions share the content's projections
    ),
    "output.dense",
    _BERT_SIZES,
    "attention_head_size",
    core="self",
)
MODERNBERT = Row(Layout({"Wqkv": "qkv"}), "Wo", after=_dropout("out_drop"))
VIT = Row(separate("q_proj", "k_proj", "v_proj"), "o_proj", {"num_attention_heads": "heads"})
BEIT = replace(VIT, per_head_arguments=("attention_mask",))  # its position bias comes as a mask
BART = Row(separate("q_proj", "k_proj", "v_proj"), "out_proj", {"num_heads": "heads"})
T5 = Row(
    separate("q", "k", "v"),
    "o",
    {"n_heads": "heads", "inner_dim": "width"},
    "key_value_proj_dim",
    bias="shared",
    returns=3,
    layer_at=-2,
)
UMT5 = replace(T5, bias="own", returns=2)
GPT2 = Row(_gpt2_layout, "c_proj", {"num_heads": "heads", "split_size": "width"}, after=_dropout("resid_dropout"))
GPTJ = Row(
    separate("q_proj", "k_proj", "v_proj"),
    "out_proj",
    {"num_attention_heads": "heads"},
    after=_dropout("resid_dropout"),
    kind=always_decoder,
)
BLOOM = Row(
    _bloom_layout,
    "dense",
    {"num_heads": "heads"},
    per_head_arguments=("alibi",),
    after=_plus_residual,
    kind=always_decoder,
)
GPT_NEOX = Row(Layout({"query_key_value": "qkv"}, interleaved=True), "dense", head_size="head_size")
FALCON = Row(
    _falcon_layout,
    "dense",
    {"num_heads": "heads", "num_kv_heads": "kv_heads"},
    per_head_arguments=("alibi", "attention_mask"),  # the mask may have the linear bias in it
)
LLAMA = Row(separate("q_proj", "k_proj", "v_proj"), "o_proj", {"num_key_value_groups": "group"})
PHI = replace(LLAMA, output="dense")
PHI3 = Row(
    Layout({"qkv_proj": "qkv"}),
    "o_proj",
    {"num_key_value_groups": "group", "num_key_value_heads": "kv_heads", "config.num_attention_heads": "heads"},
)

_CLASSES_OF: tuple[tuple[Row, str], ...] = (
    (BERT, "Bert Roberta XLMRoberta Camembert Electra Ernie RobertaPreLayerNorm Data2VecText MegatronBert RemBert Esm"),
    (ALBERT, "Albert"),
    (DEBERTA, "DebertaV2"),
    (MODERNBERT, "ModernBert"),
    (VIT, "ViT DeiT Dinov2 Dinov2WithRegisters ViTMSN AST"),
    (BEIT, "Beit"),
    (BART, "CLIP Siglip Whisper Bart MBart Marian M2M100 Pegasus Blenderbot BlenderbotSmall PLBart BioGpt Speech2Text"),
    (BART, "Translation Wav2Vec2 Hubert UniSpeech UniSpeechSat SEW Data2VecAudio OPT"),
    (T5, "T5 MT5 SwitchTransformers"),
    (UMT5, "UMT5"),
    (GPT2, "GPT2"),
    (GPTJ, "GPTJ"),
    (BLOOM, "Bloom"),
    (GPT_NEOX, "GPTNeoX"),
    (FALCON, "Falcon"),
    (LLAMA, "Llama Mistral Mixtral Ministral Qwen2 Qwen2Moe Qwen3 Qwen3Moe Gemma Gemma2 Gemma3 Granite SmolLM3"),
    (LLAMA, "Starcoder2 Glm Helium"),
    (PHI, "Phi"),
    (PHI3, "Phi3"),
)
ANATOMY: dict[str, Row] = {
    **{f"{family}Attention": row for row, families in _CLASSES_OF for family in families.split()},
    "DistilBertSelfAttention": DISTILBERT,
    "MPNetSelfAttention": MPNET,
}
"""Attention class -> row. The class is that of transformers 5; its name is what a model shows."""

LEFT_ALONE: dict[str, str] = {
    "SiglipMultiheadAttentionPoolingHead": "pools an image with one learned query, after the last layer",
}
"""Classes with attention that is no site, and why: it is neither gated, nor counted, nor cut."""
