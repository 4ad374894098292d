"""Speed from a configuration alone: which heads a budget or a distribution means, and that every runtime runs."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BadRecipe, UnsupportedModel
from headcount.running.preview import compare_shapes, subset_of
from headcount.units.map import HeadMap, Site

MAP = HeadMap(
    (
        Site("enc.0", "encoder", 0, 4, 4, 8),
        Site("enc.1", "encoder", 1, 2, 2, 16),
        Site("dec.0", "decoder", 0, 6, 2, 8),
        Site("cross.0", "cross", 0, 2, 2, 8),
        Site("dec.1", "decoder", 1, 2, 2, 8),
    )
)


@given(st.integers(0, 6))
def test_a_budget_is_spread_evenly(keep: int) -> None:
    counts = subset_of(str(keep), MAP, "encoder").counts("encoder")
    assert sum(counts) == keep
    assert max(counts) - min(counts) <= 1 or counts[1] == 2  # but for a site that has no more


def test_distributions_are_read_as_the_papers_print_them() -> None:
    every = {"enc.0": [0, 1, 2], "enc.1": [], "dec.0": [0, 1, 2, 3, 4, 5], "cross.0": [0], "dec.1": []}
    assert subset_of("encoder 3 0 | decoder 6 0 | cross 1", MAP).to_json() == every  # kind by kind, not by place
    some = MAP.subset({"enc.0": [0], "dec.0": [0, 1, 2], "dec.1": [0]})
    assert subset_of(str(some), MAP) == some
    encoder = HeadMap(MAP.sites[:2])
    assert subset_of("3 0", encoder).counts() == [3, 0]
    assert subset_of("100%", MAP) == MAP.all and subset_of("0%", MAP, "encoder").counts("encoder") == [0, 0]
    for text, says in {
        "1 2": "for each of the 5 sites, as in 'encoder 4 2 | decoder 6 2 | cross 2'",
        "1 2 6 2 2": "Cannot read the distribution",  # which of them are cross?
        "encoder 1 3 | decoder 3 1 | cross 1": "Cannot keep 3 of 2 heads at 'enc.1'",
        "encoder 1 1 | decoder 4 1 | cross 1": "Cannot keep 4 of 6 heads at 'dec.0', which go in groups of 3",
        "many": "Cannot read the budget 'many'",
        "17": "Cannot keep 17 of 16 heads",
        "1, 2, 3": "Cannot read the distribution",
    }.items():
        with pytest.raises(BadRecipe, match=says):
            subset_of(text, MAP)


def test_pytorch(tiny_bert_dir: Path) -> None:
    (comparison,) = compare_shapes(tiny_bert_dir, ["4", "0 1"], runtimes=["pytorch"], batch_size=2, length=8, rounds=2)
    whole, half, one = comparison.timings
    assert [t.name for t in comparison.timings] == ["8 of 8", "4 of 8: 2 2", "1 of 8: 0 1"]
    head = 4 * 8 * 32 + 3 * 8  # query, key, value with biases, and output
    assert (whole.size.parameters or 0) - (half.size.parameters or 0) == 4 * head
    assert (whole.size.parameters or 0) - (one.size.parameters or 0) == 7 * head
    assert 1 < (half.predicted_speedup or 0) < (one.predicted_speedup or 0)


def test_a_kind_that_comes_twice_is_refused() -> None:
    sites = tuple(Site(f"layer.{i}", "encoder", i, 2, 2, 4) for i in range(3))
    for text in ("1 1 1 | 2 2 2", "encoder 1 1 1 | encoder 2 2 2"):
        with pytest.raises(BadRecipe, match="Cannot read the distribution"):
            subset_of(text, HeadMap(sites))


@pytest.mark.slow
def test_every_runtime_that_holds_the_model(tiny_bert_dir: Path) -> None:
    said: list[str] = []
    found = compare_shapes(tiny_bert_dir, ["0"], batch_size=2, length=8, rounds=1, warmup=0, say=said.append)
    assert [c.timings[0].runtime.split()[0] for c in found] == ["torch", "onnxruntime", "openvino"]
    assert all(len(c.timings) == 2 for c in found)
    (line,) = said
    assert "ctranslate2 is left out" in line and "encoder-decoder" in line


def test_bad_runtimes(tiny_bert_dir: Path) -> None:
    with pytest.raises(BadRecipe, match="Unknown runtime 'tensorrt'. Valid runtimes: pytorch, onnxruntime"):
        compare_shapes(tiny_bert_dir, ["4"], runtimes=["tensorrt"])
    with pytest.raises(UnsupportedModel, match="encoder-decoder models"):
        compare_shapes(tiny_bert_dir, ["4"], runtimes=["ctranslate2"])
