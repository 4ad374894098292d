"""The benchmark's structure and arithmetic. No assertion looks at a clock."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from headcount.errors import BadRecipe, UnsupportedModel
from headcount.running.measure import Size, compare, forward_flops
from headcount.running.measure.latency import Comparison, Facts, Timing, distinct, rotated, summarise


def bert(ffn: int = 32, vocabulary: int = 50) -> BertModel:
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=ffn,
        max_position_embeddings=16,
    )
    return BertModel(config, add_pooling_layer=False)


def conditions(**changes: Any) -> dict[str, Any]:
    return {"batch_size": 2, "length": 6, "threads": 1, "rounds": 4, "warmup": 1, **changes}


@pytest.fixture
def two() -> tuple[Timing, Timing]:
    """Timings of an unpruned and a pruned model: four rounds, the last on a machine that has slowed down."""
    samples = {"whole": [10.0, 12.0, 11.0, 24.0], "cut": [5.0, 8.0, 5.5, 16.0]}
    facts = {"whole": Facts("torch 2", Size(100, 400), 3000), "cut": Facts("onnxruntime 1", Size(60, 240), 1200)}
    whole, cut = summarise(samples, facts, tokens=44)
    return whole, cut


def test_the_first_model_is_the_reference(two: tuple[Timing, Timing]) -> None:
    whole, _ = two
    assert (whole.name, whole.milliseconds, whole.speedup) == ("whole", 11.5, 1.0)
    assert (whole.speedup_low, whole.speedup_high, whole.share_of_prediction) == (1.0, 1.0, 1.0)


def test_times_are_medians(two: tuple[Timing, Timing]) -> None:
    _, cut = two
    assert cut.milliseconds == 6.75  # between 5.5 and 8
    assert cut.tokens_per_second == pytest.approx(44 / 0.00675)


def test_speedups_are_taken_within_rounds(two: tuple[Timing, Timing]) -> None:
    _, cut = two
    assert cut.speedup == 1.75  # of the ratios 2, 1.5, 2, 1.5; the ratio of the medians is 1.70
    assert (cut.speedup_low, cut.speedup_high) == (1.5, 2.0)
    assert (cut.predicted_speedup, cut.share_of_prediction) == (2.5, 0.7)


def test_timings_hold_the_facts(two: tuple[Timing, Timing]) -> None:
    whole, cut = two
    assert (cut.size, cut.flops, cut.samples) == (Size(60, 240), 1200, (5.0, 8.0, 5.5, 16.0))
    assert (whole.runtime, cut.runtime) == ("torch 2", "onnxruntime 1")


def test_names_that_come_again() -> None:
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
    assert distinct(["a", "a (2)", "a"]) == ["a", "a (2)", "a (3)"]


def test_a_single_round_has_no_spread() -> None:
    facts = Facts("torch 2", Size(1, 4), 2)
    _, second = summarise({"a": [6.0], "b": [4.0]}, {"a": facts, "b": facts}, tokens=1)
    assert (second.speedup_low, second.speedup, second.speedup_high) == (1.5, 1.5, 1.5)


def test_without_operations_nothing_is_predicted() -> None:
    known, unknown = Facts("torch 2", Size(1, 4), 2), Facts("onnxruntime 1", Size(None, 4), None)
    for first, second in ((known, unknown), (unknown, known)):
        timings = summarise({"a": [6.0], "b": [4.0]}, {"a": first, "b": second}, tokens=1)
        assert timings[1].speedup == 1.5 and timings[1].flops == second.flops
        assert (timings[1].predicted_speedup, timings[1].share_of_prediction) == (None, None)


def test_every_model_is_first_as_often() -> None:
    assert [rotated(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_models_take_turns_on_the_same_batch() -> None:
    """Read off by hooks: warm-up, then rounds that begin with another model each, all on equal token ids."""
    models = {"a": bert(), "b": bert()}
    calls: list[tuple[str, Tensor, bool]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Tensor]) -> None:
            calls.append((name, kwargs["input_ids"], torch.is_inference_mode_enabled()))

        return hook

    for name, model in models.items():
        model.register_forward_pre_hook(note(name), with_kwargs=True)
    compare(models, **conditions(rounds=3, warmup=1))
    timed = [(name, ids) for name, ids, inference in calls if inference]
    assert "".join(name for name, _ in timed) == "ba" + "ab" + "ba" + "ab"
    assert all(torch.equal(ids, timed[0][1]) for _, ids in timed)


@pytest.fixture(scope="module")
def compared() -> tuple[dict[str, BertModel], Comparison]:
    """Two models and their comparison."""
    models = {"wide": bert(ffn=64), "narrow": bert(ffn=16, vocabulary=30)}
    return models, compare(models, **conditions())


def test_a_comparison_measures_every_model(compared: tuple[dict[str, BertModel], Comparison]) -> None:
    models, found = compared
    assert [timing.name for timing in found.timings] == ["wide", "narrow"]
    for timing in found.timings:
        assert len(timing.samples) == 4
        assert timing.flops == forward_flops(models[timing.name], 2, 6)
        assert timing.size == Size.of(models[timing.name])
        assert timing.speedup_low <= timing.speedup <= timing.speedup_high


def test_a_comparison_summarises_its_samples(compared: tuple[dict[str, BertModel], Comparison]) -> None:
    _, found = compared
    assert found.timings[1].predicted_speedup == found.timings[0].flops / found.timings[1].flops
    assert found.timings == summarise(
        {timing.name: timing.samples for timing in found.timings},
        {timing.name: Facts(timing.runtime, timing.size, timing.flops) for timing in found.timings},
        tokens=12,
    )


def test_a_comparison_is_signed_and_becomes_json(compared: tuple[dict[str, BertModel], Comparison]) -> None:
    _, found = compared
    start = "batch:2|length:6|threads:1|rounds:4|seed:0|device:cpu|matmul:highest|torch:"
    assert found.signature.startswith(start)
    data = json.loads(json.dumps(found.to_json()))
    assert data["signature"] == found.signature
    assert data["timings"][1]["size"]["parameters"] == found.timings[1].size.parameters


def test_tokens_come_from_the_smallest_vocabulary() -> None:
    """Embeddings raise an error for an id beyond their vocabulary; of 5 words next to 5,000, none must be."""
    models = {"large": bert(vocabulary=5000), "small": bert(vocabulary=5)}
    found = compare(models, **conditions(batch_size=8, rounds=1))
    assert [timing.name for timing in found.timings] == ["large", "small"]


def test_leaves_modes_threads_and_random_state() -> None:
    model = bert().train()
    model.encoder.eval()
    modes, threads, state = (
        [m.training for m in model.modules()],
        torch.get_num_threads(),
        torch.get_rng_state(),
    )
    compare({"model": model}, **conditions(threads=threads + 1))
    assert [m.training for m in model.modules()] == modes
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_leaves_modes_and_threads_after_an_error() -> None:
    class Failing(BertModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            raise ArithmeticError("no")

    model, threads = Failing(bert().config).train(), torch.get_num_threads()
    with pytest.raises(ArithmeticError):
        compare({"model": model}, **conditions(threads=threads + 1))
    assert model.training
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["batch_size", "length", "threads", "rounds"])
def test_settings_below_one(name: str) -> None:
    with pytest.raises(BadRecipe, match=f"Got {name} 0"):
        compare({"model": bert()}, **conditions(**{name: 0}))


def test_negative_warmup() -> None:
    with pytest.raises(BadRecipe, match="Got warmup -1"):
        compare({"model": bert()}, **conditions(warmup=-1))


def test_longer_than_one_of_the_models_reads() -> None:
    longer = BertModel(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    with pytest.raises(BadRecipe, match="Got length 17, but BertModel reads at most 16"):
        compare({"longer": longer, "model": bert()}, **conditions(length=17))


def test_no_models() -> None:
    with pytest.raises(BadRecipe, match="no models"):
        compare({}, **conditions())


def test_models_on_two_devices() -> None:
    with pytest.raises(BadRecipe, match="must be on one device"):
        compare({"here": bert(), "there": bert().to("meta")}, **conditions())


def test_no_text_model() -> None:
    with pytest.raises(UnsupportedModel, match="not token ids"):
        compare({"linear": nn.Linear(2, 2)}, **conditions())
