"""A plan cuts the base model when it is loaded: bit for bit what surgery does; a wrong base is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
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
from typer.testing import CliRunner

import headcount
import processes
from families import FAMILIES, tiny
from headcount import cli
from headcount.anatomy import head_map, present
from headcount.anatomy.probe import random_inputs
from headcount.checkpoint import load, skeleton
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.fingerprint import difference
from headcount.heads import Subset
from headcount.plan import Plan, apply_plan, extract_plan
from headcount.selfcheck import outputs
from headcount.surgery import remove_heads

SITE = "bert.encoder.layer.1.attention"


def uneven(model: Any, most: int = 2) -> Subset:
    """No head at the first site, one key/value head's at the second, and so on."""
    whole = head_map(model)
    kept = {site.name: range(site.heads // site.kv_heads * (i % (most + 1))) for i, site in enumerate(whole.sites)}
    return whole.subset(kept)


def same(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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
    tiny("bert").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    model = tiny("bert")
    Plan.of(remove_heads(model, uneven(model))).save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


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
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "middle", quantization_config=plan)
    assert same(loaded, expected) and present(loaded) == fewer and is_ordinary(loaded)
    assert same(plan.apply(load(tmp_path / "middle")), expected)
    more = Plan(head_map(middle).all)
    for way in (
        lambda: more.apply(load(tmp_path / "middle")),
        lambda: AutoModel.from_pretrained(tmp_path / "middle", quantization_config=more),
    ):
        with pytest.raises(BadRecipe, match="the plan: cannot keep heads that are gone already: .*layer.0.attention:0"):
            way()
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


def test_a_plan_is_small(tmp_path: Path) -> None:
    """Of BERT-base's shape: 12 layers of 12 heads, all kept but one, with fingerprints. A real one is as large."""
    sizes = {"vocab_size": 9, "hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 8}
    model = BertModel(BertConfig(num_hidden_layers=12, **sizes))
    names = [site.name for site in head_map(model).sites]
    plan = Plan.of(remove_heads(model, {names[0]: range(11)}))
    plan.save(tmp_path / "plan.json")
    assert plan.fingerprints is not None and len(plan.subset) == 143
    assert (tmp_path / "plan.json").stat().st_size < 16_000
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o666 & ~umask  # others may read it, unlike a temporary
    with torch.device("meta"):
        nothing = Plan.of(BertModel(BertConfig()))
    assert nothing.fingerprints is None and len(nothing.subset) == 144
    nothing.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == nothing
    assert (tmp_path / "plan.json").stat().st_size < 16_000


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


def keeping(plan: dict[str, Any], heads: Any) -> dict[str, Any]:
    return plan | {"kept": plan["kept"] | {SITE: heads}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda plan: "text", "plan.json: no pruning plan"),
        (lambda plan: plan | {"quant_method": "gptq"}, "plan.json: no pruning plan"),
        (lambda plan: plan | {"format_version": 2}, "plan.json: plan of format version 2; this headcount reads"),
        (lambda plan: plan | {"surprise": 1}, r"plan.json: a plan has architecture, .*; got .*'surprise'"),
        (lambda plan: plan | {"architecture": 3}, "plan.json: 'architecture' is the name of a class or null, got 3"),
        (lambda plan: keeping(plan, [0, 4]), rf"plan.json: site '{SITE}' is recorded to keep heads \[0, 4\] of 4"),
        (lambda plan: keeping(plan, [1, 1]), rf"site '{SITE}' is recorded to keep heads \[1, 1\]"),
        (lambda plan: keeping(plan, "all"), rf"site '{SITE}' is recorded to keep heads 'all'"),
        (lambda plan: plan | {"kept": {SITE: [0]}}, rf"'kept' names the sites \['{SITE}'\]"),
        (lambda plan: plan | {"kept": 3}, "plan.json: the plan's head map makes no sense"),
        (lambda plan: plan | {"sites": [plan["sites"][0] | {"kind": "odd"}]}, "plan.json: .*layer.0.* has kind 'odd'"),
        (lambda plan: plan | {"sites": [{"name": SITE}]}, "plan.json: the plan's head map makes no sense: .*kind"),
        (lambda plan: plan | {"fingerprints": {}}, "plan.json: site 'bert.encoder.layer.0.*' needs fingerprints"),
        (
            lambda plan: plan | {"fingerprints": plan["fingerprints"] | {SITE: {"load": "00"}}},
            rf"site '{SITE}' needs fingerprints by data type, got {{'load': '00'}}",
        ),
    ],
)  # fmt: skip
def test_a_damaged_plan_is_named(plan: Path, change: Any, says: str) -> None:
    plan.write_text(json.dumps(change(json.loads(plan.read_text()))))
    with pytest.raises(CorruptCheckpoint, match=says):
        Plan.load(plan)


def test_files_that_are_no_plan(plan: Path, tmp_path: Path) -> None:
    plan.write_text(plan.read_text()[:200])
    with pytest.raises(CorruptCheckpoint, match="plan.json: not JSON"):
        Plan.load(plan)
    with pytest.raises(BadRecipe, match="Cannot read a plan from '.*missing.json'"):
        Plan.load(tmp_path / "missing.json")
    for place in (tmp_path, tmp_path / "nowhere" / "plan.json"):
        with pytest.raises(BadRecipe, match="Cannot write the plan to"):
            Plan.of(tiny("bert")).save(place)


def test_trained_weights_need_more_than_a_plan(base: Path, tmp_path: Path) -> None:
    model = tiny("bert")
    remove_heads(model, uneven(model)).save_pretrained(tmp_path / "kept")
    assert extract_plan(tmp_path / "kept", base) == Plan.of(model)
    with torch.no_grad():
        model.classifier.bias[1] += 1e-6
    model.save_pretrained(tmp_path / "head")
    with pytest.raises(BadRecipe, match=r"changed by training, .* 'classifier.bias' has other values than in '.*base'"):
        extract_plan(tmp_path / "head", base)
    with torch.no_grad():
        model.bert.encoder.layer[2].output.dense.weight[0, 0] += 1
    model.save_pretrained(tmp_path / "trained")
    with pytest.raises(BadRecipe, match=r"layer.2.output.dense.weight' has other values .*\(and 1 more\)"):
        extract_plan(tmp_path / "trained", base)
    remove_heads(tiny("bert"), uneven(model)).half().save_pretrained(tmp_path / "half")
    with pytest.raises(BadRecipe, match="has data type float16, but float32 in"):
        extract_plan(tmp_path / "half", base)
    tiny("bert").bert.save_pretrained(tmp_path / "encoder")
    with pytest.raises(BadRecipe, match=r"'classifier.weight' is not in '.*encoder', .*\(and 1 more\)"):
        extract_plan(tmp_path / "kept", tmp_path / "encoder")
    AutoModel.from_pretrained(tmp_path / "kept").save_pretrained(tmp_path / "part")
    assert extract_plan(tmp_path / "part", base) == Plan.of(remove_heads(tiny("bert"), uneven(model)))
    tiny("distilbert").save_pretrained(tmp_path / "distilbert")
    with pytest.raises(CorruptCheckpoint, match="the recorded sites are not those of DistilBert"):
        extract_plan(tmp_path / "kept", tmp_path / "distilbert")


def test_weights_are_compared_by_their_bits() -> None:
    zeros, nothing = torch.zeros(2), torch.full((2,), torch.nan)
    assert difference(zeros, -zeros) == "has other values than" and difference(zeros, zeros.clone()) is None
    assert difference(nothing, nothing.clone()) is None
    assert difference(zeros, torch.zeros(2, 1)) == "has shape [2], but [2, 1]" and difference(zeros, None) == "is not"


def test_the_commands(base: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    tiny_tokenizer.save_pretrained(base)
    model = tiny("bert")
    remove_heads(model, uneven(model)).save_pretrained(tmp_path / "pruned")
    file, small = tmp_path / "a [red] plan:train:.json", tmp_path / "small"  # nothing that rich may interpret
    run = CliRunner().invoke
    made = run(cli.app, ["plan", str(tmp_path / "pruned"), "--base", str(base), "-o", str(file), "--json"])
    size = file.stat().st_size
    assert json.loads(made.stdout) == {"output": str(file), "heads": 12, "kept": 3, "text": "0 1 2", "bytes": size}
    twice = run(cli.app, ["plan", str(tmp_path / "pruned"), "--base", str(base), "-o", str(file)])
    assert isinstance(twice.exception, BadRecipe) and "is there already" in str(twice.exception)
    file.unlink()
    shown = run(cli.app, ["plan", str(tmp_path / "pruned"), "--base", str(base), "-o", str(file)])
    assert f"Wrote {file} ({size:,} bytes): 3 of 12 heads; per layer: 0 1 2." in shown.stdout
    applied = run(cli.app, ["apply", str(base), str(file), "-o", str(small), "--json"])
    assert json.loads(applied.stdout) == {"output": str(small), "heads": 12, "kept": 3, "text": "0 1 2"}
    assert same(load(small), model)
    assert transformers.AutoTokenizer.from_pretrained(small).get_vocab() == tiny_tokenizer.get_vocab()
    refused = run(cli.app, ["apply", str(base), str(file), "-o", str(small)])
    assert isinstance(refused.exception, BadRecipe) and "not empty" in str(refused.exception)


@pytest.mark.slow
def test_the_commands_as_processes(base: Path, plan: Path, tmp_path: Path) -> None:
    tiny("bert", seed=1).save_pretrained(tmp_path / "other")
    ran = processes.headcount("apply", tmp_path / "other", plan, "-o", tmp_path / "small")
    assert ran.returncode == 1 and len([line for line in ran.stderr.splitlines() if "headcount:" in line]) == 1
    assert "have other weights here" in ran.stderr and not (tmp_path / "small").exists()


def test_no_tokenizer_is_made_up(base: Path, plan: Path, tmp_path: Path) -> None:
    apply_plan(base, plan, tmp_path / "small")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["config.json", "model.safetensors"]
