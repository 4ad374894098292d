"""Plans as files: small, made by a command and applied by another; damaged ones and changed weights are refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from plans import SITE, same, saved_base, saved_plan, uneven
from transformers import AutoModel, BertConfig, BertModel

from families import tiny
from headcount.anatomy import head_map
from headcount.directory.fingerprint import difference
from headcount.directory.model_files import load
from headcount.directory.plan import Plan, apply_plan, extract_plan
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.surgery.cut import remove_heads
from processes import headcount


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return saved_base(tmp_path / "base")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return saved_plan(tmp_path / "plan.json")


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
    made = headcount("plan", tmp_path / "pruned", "--base", base, "-o", file, "--json")
    size = file.stat().st_size
    assert json.loads(made.stdout) == {"output": str(file), "heads": 12, "kept": 3, "text": "0 1 2", "bytes": size}
    twice = headcount("plan", tmp_path / "pruned", "--base", base, "-o", file)
    assert twice.returncode == 1 and "is there already" in twice.stderr
    file.unlink()
    shown = headcount("plan", tmp_path / "pruned", "--base", base, "-o", file)
    assert f"Wrote {file} ({size:,} bytes): 3 of 12 heads; per layer: 0 1 2." in shown.stdout
    applied = headcount("apply", base, file, "-o", small, "--json")
    assert json.loads(applied.stdout) == {"output": str(small), "heads": 12, "kept": 3, "text": "0 1 2"}
    assert same(load(small), model)
    assert transformers.AutoTokenizer.from_pretrained(small).get_vocab() == tiny_tokenizer.get_vocab()
    refused = headcount("apply", base, file, "-o", small)
    assert refused.returncode == 1 and "not empty" in refused.stderr


def test_what_stands_beside_the_base_comes_along(base: Path, plan: Path, tmp_path: Path) -> None:
    """Processors, and how SentenceTransformers pools; what the cut model wrote itself stays."""
    (base / "preprocessor_config.json").write_text('{"size": 30}')
    (base / "1_Pooling").mkdir()
    (base / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (base / "notes.txt").write_text("mine")
    apply_plan(base, plan, tmp_path / "small")
    for name in ("preprocessor_config.json", "1_Pooling/config.json"):
        assert (tmp_path / "small" / name).read_bytes() == (base / name).read_bytes()
    assert not (tmp_path / "small" / "notes.txt").exists()
    assert (tmp_path / "small" / "config.json").read_bytes() != (base / "config.json").read_bytes()


@pytest.mark.slow
def test_the_commands_as_processes(base: Path, plan: Path, tmp_path: Path) -> None:
    tiny("bert", seed=1).save_pretrained(tmp_path / "other")
    ran = headcount("apply", tmp_path / "other", plan, "-o", tmp_path / "small")
    assert ran.returncode == 1 and len([line for line in ran.stderr.splitlines() if "headcount:" in line]) == 1
    assert "have other weights here" in ran.stderr and not (tmp_path / "small").exists()


def test_no_tokenizer_is_made_up(base: Path, plan: Path, tmp_path: Path) -> None:
    apply_plan(base, plan, tmp_path / "small")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["config.json", "model.safetensors"]
