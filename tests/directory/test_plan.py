"""A plan cuts the base model when it is loaded: bit for bit what surgery does; a wrong base is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from plans import SITE, same, saved_base, saved_plan, uneven
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    CLIPVisionModel,
    T5EncoderModel,
    pipeline,
)

import headcount
from families import FAMILIES, tiny
from headcount.anatomy import head_map, present
from headcount.anatomy.example import random_inputs
from headcount.directory.model_files import load, skeleton
from headcount.directory.plan import Plan
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs


def is_ordinary(model: Any) -> bool:
    flags = (
        getattr(model, "is_quantized", False),
        hasattr(model, "hf_quantizer"),
        hasattr(model, "quantization_method"),
    )
    recorded: dict[str, Any] = model.config.quantization_config
    return not any(flags) and recorded["quant_method"] == "headcount" and not hasattr(model.config, "_is_quantized")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved_base(tmp_path / "base")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return saved_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "clip", "t5", "gpt2", "llama"])
def test_at_load_it_does_what_surgery_does(family: str, tmp_path: Path) -> None:
    tiny(family).save_pretrained(tmp_path / "base")
    kind = getattr(transformers, FAMILIES[family].auto)
    cut = kind.from_pretrained(tmp_path / "base")
    inputs = random_inputs(cut)
    remove_heads(cut, uneven(cut))
    Plan.of(cut).save(tmp_path / "plan.json")
    loaded = kind.from_pretrained(tmp_path / "base", quantization_config=Plan.load(tmp_path / "plan.json"))
    assert same(loaded, cut) and torch.equal(outputs(loaded, inputs), outputs(cut, inputs))
    assert present(loaded) == present(cut) and is_ordinary(loaded)
    loaded.save_pretrained(tmp_path / "small")
    assert "headcount-plan" not in (tmp_path / "small" / "config.json").read_text()
    again = kind.from_pretrained(tmp_path / "small")
    assert same(again, cut) and torch.equal(outputs(again, inputs), outputs(cut, inputs))


def test_one_base_serves_many_budgets(base: Path, tmp_path: Path) -> None:
    whole = head_map(tiny("bert"))
    for most in (1, 2, 3):
        model = tiny("bert")
        keep = uneven(model, most)
        Plan.of(model, keep).save(tmp_path / f"{most}.json")
        assert present(model) == whole.all  # making a plan cuts nothing
        remove_heads(model, keep)
        loaded = AutoModelForSequenceClassification.from_pretrained(
            base, quantization_config=Plan.load(tmp_path / f"{most}.json")
        )
        assert present(loaded) == keep and same(loaded, model)
        assert Plan.of(model) == Plan.load(tmp_path / f"{most}.json")
    everything = AutoModelForSequenceClassification.from_pretrained(base, quantization_config=Plan(whole.all))
    assert same(everything, tiny("bert")) and not hasattr(everything.config, "quantization_config")
    assert sorted(path.name for path in base.iterdir()) == ["config.json", "model.safetensors"]


def test_a_pipeline_takes_it(base: Path, plan: Path, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.save_pretrained(base)
    text = tiny_tokenizer.decode(range(5, 9))
    cut = AutoModelForSequenceClassification.from_pretrained(base)
    remove_heads(cut, uneven(cut))
    with torch.no_grad():
        expected = cut(**tiny_tokenizer(text, return_tensors="pt")).logits.softmax(-1).max().item()
    classify = pipeline("text-classification", str(base), model_kwargs={"quantization_config": Plan.load(plan)})
    assert present(classify.model) == present(cut)
    assert classify(text)[0]["score"] == pytest.approx(expected, abs=1e-6)


def test_half_precision_is_the_same_base(base: Path, plan: Path, tmp_path: Path) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        loaded = AutoModelForSequenceClassification.from_pretrained(
            base, quantization_config=Plan.load(plan), dtype=dtype
        )
        cut = AutoModelForSequenceClassification.from_pretrained(base, dtype=dtype)
        assert loaded.dtype == dtype and same(loaded, remove_heads(cut, uneven(cut)))
    other = tiny("bert", seed=1).to(torch.bfloat16)
    with pytest.raises(BadRecipe, match="have other weights here"):
        Plan.load(plan).apply(other)
    narrow = Plan.of(tiny("bert").to(torch.float16), uneven(tiny("bert")))
    assert len(present(narrow.apply(tiny("bert").half().float()))) == len(narrow.subset)


def test_parts_and_holders_of_the_planned_model(base: Path, plan: Path, tmp_path: Path) -> None:
    expected = tiny("bert")
    remove_heads(expected, uneven(expected))
    encoder = AutoModel.from_pretrained(base, quantization_config=Plan.load(plan))
    assert type(encoder) is BertModel and same(encoder, expected.base_model)
    of_encoder = Plan.of(encoder)
    assert [site.name for site in of_encoder.subset.head_map.sites][1] == SITE.removeprefix("bert.")
    held = AutoModelForSequenceClassification.from_pretrained(base, quantization_config=of_encoder)
    assert same(held, expected)
    shallow = AutoModelForSequenceClassification.from_pretrained(
        base, quantization_config=Plan.load(plan), num_hidden_layers=2
    )
    assert present(shallow).counts() == present(expected).counts()[:2]


def test_part_of_a_pruned_directory(tmp_path: Path) -> None:
    """The record names more sites than the part has: a decoder's, another tower's, or those of layers left out."""
    t5 = tiny("t5")
    remove_heads(t5, uneven(t5)).save_pretrained(tmp_path / "t5")
    assert same(T5EncoderModel.from_pretrained(tmp_path / "t5").encoder, t5.encoder)
    clip = tiny("clip")
    towers = remove_heads(clip, uneven(clip))
    towers.save_pretrained(tmp_path / "clip")
    config = AutoConfig.from_pretrained(tmp_path / "clip")
    config.vision_config.quantization_config = config.quantization_config  # as Auto classes do for text_config
    vision = CLIPVisionModel.from_pretrained(tmp_path / "clip", config=config.vision_config)
    assert present(vision).to_json() == {
        name.removeprefix("vision_model."): heads
        for name, heads in present(towers).to_json().items()
        if name.startswith("vision_model.")
    }
    assert len(present(vision)) < len(present(vision).head_map) and same(vision, towers.vision_model)
    bert = remove_heads(tiny("bert"), {SITE: [1]})
    bert.save_pretrained(tmp_path / "bert")
    shallow = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bert", num_hidden_layers=2)
    assert present(shallow).counts() == [4, 1]
    with pytest.raises(CorruptCheckpoint, match=r"in the model, not recorded: \['bert.encoder.layer.3.attention'\]"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "bert", num_hidden_layers=4)
    config.vision_config.quantization_config["sites"]["vision_model.encoder.layers.1.self_attn"]["kept"] = [0, 1, 2]
    with pytest.raises(CorruptCheckpoint, match="site 'encoder.layers.1.self_attn' should keep 3 heads of 8"):
        CLIPVisionModel.from_pretrained(tmp_path / "clip", config=config.vision_config)


def test_a_base_that_is_pruned_already(tmp_path: Path) -> None:
    middle = tiny("bert")
    remove_heads(middle, uneven(middle, 3))
    middle.save_pretrained(tmp_path / "middle")
    names = [site.name for site in head_map(middle).sites]
    fewer = head_map(middle).subset({names[1]: [0], names[2]: [1]})
    plan = Plan.of(tiny("bert"), fewer)
    expected = remove_heads(tiny("bert"), fewer)
    loaded = plan.apply(load(tmp_path / "middle"))
    assert same(loaded, expected) and present(loaded) == fewer and is_ordinary(loaded)
    with pytest.raises(BadRecipe, match="the plan: cannot keep heads that are gone already: .*layer.0.attention:0"):
        Plan(head_map(middle).all).apply(load(tmp_path / "middle"))
    with pytest.raises(ValueError, match="quantized with PrunedHeads but you are passing a Plan config"):
        AutoModel.from_pretrained(tmp_path / "middle", quantization_config=plan)
    unpruned = AutoModelForSequenceClassification.from_pretrained(tmp_path / "middle")
    assert len(present(unpruned)) == len(uneven(middle, 3))  # the ordinary way is as it was


def test_gates_are_planned_and_a_failed_apply_changes_nothing(plan: Path) -> None:
    model = tiny("bert")
    gates = headcount.attach(model, headcount.GumbelTopK(keep=5))
    chosen = gates.subset()
    planned = Plan.of(model)
    assert planned.subset == chosen and planned == Plan.of(tiny("bert"), chosen)
    assert same(planned.apply(model), remove_heads(tiny("bert"), chosen))
    other = tiny("bert", seed=1)
    with pytest.raises(BadRecipe):
        Plan.load(plan).apply(other)
    assert same(other, tiny("bert", seed=1))


def test_a_skeleton_has_no_weights_to_compare(base: Path, plan: Path) -> None:
    model = Plan.load(plan).apply(skeleton(base), check=False)
    assert present(model) == uneven(tiny("bert"))


def test_another_base_is_refused(base: Path, plan: Path, tmp_path: Path) -> None:
    tiny("bert", seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(BadRecipe, match=r"plan.json \(for BertForSeq.*\): at site 'bert.*layer.0.* have other weights"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "other", quantization_config=Plan.load(plan))
    touched = tiny("bert")
    with torch.no_grad():
        touched.get_submodule(SITE).self.key.bias[0] += 1e-6  # of head 0, which the plan keeps
    with pytest.raises(BadRecipe, match=f"at site '{SITE}' the heads it keeps have other weights"):
        Plan.load(plan).apply(touched)
    untouched = tiny("bert")
    with torch.no_grad():
        untouched.get_submodule(SITE).self.key.bias[-1] += 1  # of head 3, which goes anyway
    assert same(Plan.load(plan).apply(untouched), Plan.load(plan).apply(tiny("bert")))
    with pytest.raises(
        CorruptCheckpoint, match=r"plan.json \(for Bert.*\): the recorded sites are not those of DistilB"
    ):
        Plan.load(plan).apply(tiny("distilbert"))
    with torch.device("meta"):
        wider = BertModel(BertConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=6))
    with pytest.raises(
        CorruptCheckpoint, match=f"site '{SITE.replace('1', '0')}' has heads 4 in the plan, but 6 in this"
    ):
        Plan.load(plan).apply(wider, check=False)


def test_offloaded_weights_are_refused(base: Path, plan: Path, tmp_path: Path) -> None:
    where = {"bert.embeddings": "cpu", "bert.encoder": "disk", "bert.pooler": "cpu", "classifier": "cpu"}
    with pytest.raises(BadRecipe, match=r"layer.0.attention' are offloaded, so they cannot be cut"):
        AutoModelForSequenceClassification.from_pretrained(
            base, quantization_config=Plan.load(plan), device_map=where, offload_folder=tmp_path / "offload"
        )
