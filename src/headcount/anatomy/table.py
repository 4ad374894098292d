"""Where attention lives: one row per attention class. A new model family is one row here (docs/add-a-family.md).

The rows are facts, read by one engine (`anatomy/survey.py`, `surgery.py`); no code anywhere asks for a model type.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from headcount.anatomy.projections import Separate


def encoder(attention: nn.Module) -> str:
    """The kind of a site that only ever sits in an encoder."""
    return "encoder"


def bert_like(attention: nn.Module) -> str:
    """The kind of a site of BERT's family, where one class serves as encoder, decoder and cross-attention."""
    if getattr(attention, "is_cross_attention", False):
        return "cross"
    return "decoder" if getattr(attention.self, "is_decoder", False) else "encoder"


@dataclass(frozen=True)
class Row:
    """What the engine must know of one attention class.

    Attributes:
        inputs: The projections of queries, keys and values, as paths below `core`.
        output: Path of the output projection below the attention module. The heads' outputs enter it side by side.
        heads: Attributes of `core` that hold the number of heads; the first one is read, all are rewritten.
        widths: Attributes of `core` that hold heads x head size; rewritten.
        head_size: Attribute of `core` that holds the head size; never rewritten.
        core: Path, below the attention module, of the module that computes the heads. Empty: the module itself.
        per_head_argument: Position and name of an argument of `core` that has one entry per head on axis 1, made
            elsewhere for all heads of the unpruned model: a position bias. It is narrowed to the kept heads on entry.
        kind: Tells `encoder`, `decoder` or `cross` of an attention module.
    """

    inputs: Separate
    output: str
    heads: tuple[str, ...]
    widths: tuple[str, ...] = ()
    head_size: str = "attention_head_size"
    core: str = ""
    per_head_argument: tuple[int, str] | None = None
    kind: Callable[[nn.Module], str] = encoder

    @property
    def output_in_core(self) -> str | None:
        """Path of the output projection below `core`, or None where the family keeps it outside."""
        if not self.core:
            return self.output
        return self.output.removeprefix(self.core + ".") if self.output.startswith(self.core + ".") else None


BERT = Row(
    inputs=Separate("query", "key", "value"),
    output="output.dense",
    heads=("num_attention_heads",),
    widths=("all_head_size",),
    core="self",
    kind=bert_like,
)
DISTILBERT = Row(inputs=Separate("q_lin", "k_lin", "v_lin"), output="out_lin", heads=("n_heads",))
MPNET = Row(
    inputs=Separate("q", "k", "v"),
    output="o",
    heads=("num_attention_heads",),
    widths=("all_head_size",),
    per_head_argument=(2, "position_bias"),
)

ANATOMY: dict[str, Row] = {
    "BertAttention": BERT,
    "RobertaAttention": BERT,
    "ElectraAttention": BERT,
    "DistilBertSelfAttention": DISTILBERT,
    "MPNetSelfAttention": MPNET,
}
"""Attention class -> row. The class is that of transformers 5; its name is what a model shows."""
