"""Operations of a forward pass, against formulas worked by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from families import tiny
from headcount.anatomy.example import random_inputs
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.running.measure import forward_flops
from headcount.running.measure.flops import evaluating, token_batch


class NoHeads(nn.Module):
    """Self-attention of a site without heads, in BERT's signature."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return hidden_states.new_zeros(*hidden_states.shape[:-1], 0), None


def bert(kept: list[int], attention: str = "sdpa", head_size: int = 8, d: int = 32, ffn: int = 48) -> BertModel:
    """A BERT built with 4 heads a layer, whose layers have only `kept` of them left."""
    config = BertConfig(
        vocab_size=60,
        hidden_size=d,
        num_hidden_layers=len(kept),
        num_attention_heads=d // head_size,
        intermediate_size=ffn,
        max_position_embeddings=512,
        attn_implementation=attention,
    )
    model = BertModel(config, add_pooling_layer=False)
    for layer, heads in zip(model.encoder.layer, kept, strict=True):
        core, output = layer.attention.self, layer.attention.output
        if not heads:
            layer.attention.self = NoHeads()
        for name in ("query", "key", "value") if heads else ():
            linear = getattr(core, name)
            linear.weight = nn.Parameter(linear.weight[: heads * head_size].detach())
            linear.bias = nn.Parameter(linear.bias[: heads * head_size].detach())
        output.dense.weight = nn.Parameter(output.dense.weight[:, : heads * head_size].detach())
    return model


def bert_flops(kept: list[int], batch: int, length: int, head_size: int = 8, d: int = 32, ffn: int = 48) -> int:
    """By hand, 2 operations a multiply-add: projections, scores and weighted sum, feed-forward matrices."""
    projections = sum(8 * length * d * heads * head_size for heads in kept)
    attention = sum(4 * length * length * heads * head_size for heads in kept)
    return batch * (projections + attention + len(kept) * 4 * length * d * ffn)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kept", [[4], [4, 4], [1, 3, 2], [0, 2], [0, 0]])
def test_bert_by_hand(kept: list[int], attention: str) -> None:
    assert forward_flops(bert(kept, attention), batch_size=3, length=7) == bert_flops(kept, 3, 7)


def test_classification_head_counts() -> None:
    """A pooler (d x d) and a classifier (d x 3) read one position of each sequence."""
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=3,
    )
    extra = 2 * (2 * 32 * 32 + 2 * 32 * 3)
    assert forward_flops(BertForSequenceClassification(config), 2, 5) == bert_flops([4], 2, 5) + extra


@pytest.mark.parametrize(("keep", "ideal"), [(72, 1.213), (36, 1.358), (12, 1.475), (0, 1.542)])
def test_ideal_speedup_of_bert_base(keep: int, ideal: float) -> None:
    """The ideal for BERT-base's encoder at length 128, heads uniform over its 12 layers.

    One layer tells: layers of one width add up to the same ratio.
    """
    shape = {"head_size": 64, "d": 768, "ffn": 3072}
    whole, cut = (forward_flops(bert([heads], **shape), 1, 128) for heads in (12, keep // 12))
    assert whole / cut == pytest.approx(ideal, abs=5e-4)


def test_encoder_decoder_reads_both_sides() -> None:
    """T5 by hand: encoder 8 T d hd + 4 T T hd + 4 T d ffn; the decoder has that and cross-attention."""
    config = T5Config(vocab_size=40, d_model=16, d_kv=4, num_heads=2, d_ff=24, num_layers=1, num_decoder_layers=1)
    attention = 8 * 5 * 16 * 8 + 4 * 5 * 5 * 8
    assert forward_flops(T5Model(config), 2, 5) == 2 * (3 * attention + 2 * 4 * 5 * 16 * 24)


def test_bart_classifier_gets_its_end_of_sentence() -> None:
    """It pools where the end of the sentence is, and fails unless every sequence has equally many."""
    config = BartConfig(
        vocab_size=40,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=16,
    )
    assert forward_flops(BartForSequenceClassification(config), 4, 16) > 0


def test_several_ends_of_a_text() -> None:
    """As of Llama 3 and Gemma: none is a word, and the first is the end."""
    model = tiny("llama")
    model.config.eos_token_id = [5, 6]
    ids = token_batch([model], 4, 9, seed=0)
    assert set(ids[:, -1].tolist()) == {5} and not {5, 6} & set(ids[:, :-1].flatten().tolist())
    assert forward_flops(model, 2, 6) > 0 and random_inputs(model)["input_ids"].shape == (2, 8)


def test_grouped_queries_by_hand() -> None:
    """4 query heads, 2 key/value heads, values of another width: 2 B H Tq Tk (Dqk + Dv)."""
    from headcount.running.measure.flops import attention_flops

    assert attention_flops([3, 4, 5, 8], [3, 2, 7, 8], [3, 2, 7, 6]) == 2 * 3 * 4 * 5 * 7 * (8 + 6)
    assert attention_flops([3, 0, 5, 8], [3, 0, 5, 8], [3, 0, 5, 8]) == 0


def test_token_batch_is_seeded_and_leaves_the_global_state() -> None:
    model = bert([1])
    state = torch.get_rng_state()
    batch = token_batch([model], 4, 6, seed=3)
    assert torch.equal(batch, token_batch([model], 4, 6, seed=3))
    assert not torch.equal(batch, token_batch([model], 4, 6, seed=4))
    assert torch.equal(torch.get_rng_state(), state)
    assert batch.shape == (4, 6)
    assert batch.min() > 0  # BERT's padding id


def test_modes_are_restored_module_by_module() -> None:
    model = bert([1, 1]).train()
    model.encoder.layer[0].eval()
    before = [module.training for module in model.modules()]
    with evaluating([model]):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    forward_flops(model, 1, 2)
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (-1, 4)])
def test_empty_batch(shape: tuple[int, int]) -> None:
    with pytest.raises(BadRecipe, match=r"Give 1 or more\."):
        forward_flops(bert([1]), *shape)


def test_longer_than_the_model_reads() -> None:
    with pytest.raises(BadRecipe, match=r"BertModel reads at most 512 tokens\. Give a length from 1 to 512"):
        forward_flops(bert([1]), 1, 513)


def test_roberta_numbers_positions_from_the_padding_id() -> None:
    config = RobertaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
    )
    model = RobertaModel(config, add_pooling_layer=False)
    assert forward_flops(model, 1, 18) == 8 * 18 * 16 * 16 + 4 * 18 * 18 * 16 + 4 * 18 * 16 * 24
    with pytest.raises(BadRecipe, match="at most 18 tokens"):
        forward_flops(model, 1, 19)


def test_model_without_token_ids() -> None:
    with pytest.raises(UnsupportedModel, match="Cannot measure Linear"):
        forward_flops(nn.Linear(2, 2), 1, 1)
