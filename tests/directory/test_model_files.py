"""A pruned directory is an ordinary one: everything that loads models loads it, bit for bit; damage is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

from families import CLASSIFIERS, tiny
from headcount.anatomy import head_map, present
from headcount.anatomy.example import random_inputs
from headcount.directory.model_files import load, skeleton
from headcount.errors import BadRecipe, CorruptCheckpoint, UnsupportedModel
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs


def pruned(family: str) -> Any:
    """A tiny model with an empty site, an uneven one, and a site with one head."""
    model = tiny(family)
    names = [site.name for site in head_map(model).sites]
    return remove_heads(model, {names[0]: [], names[1]: [0, 2], names[2]: [3]})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pruned("bert").save_pretrained(tmp_path / "pruned")
    return tmp_path / "pruned"


def edit(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] |= changes
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_loads_and_saves_again_bit_for_bit(family: str, tmp_path: Path) -> None:
    model = pruned(family)
    inputs = random_inputs(model)
    expected = outputs(model, inputs)
    here = model
    for generation in range(3):
        directory = tmp_path / str(generation)
        here.save_pretrained(directory)
        here, report = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
        assert not any(report[trouble] for trouble in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert torch.equal(outputs(here, inputs), expected)
        assert present(here) == present(model)
        assert not getattr(here, "is_quantized", False) and not hasattr(here, "hf_quantizer")
    saved, loaded = model.state_dict(), here.state_dict()
    assert saved.keys() == loaded.keys() and all(torch.equal(saved[name], loaded[name]) for name in saved)
    half = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and half.half().to("cpu").dtype == torch.float16
    assert type(load(directory)) is type(model)


def hidden_state(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last layer's; a pooler that the checkpoint does not have would be random."""
    with torch.no_grad():
        state: torch.Tensor = model.eval()(**inputs).last_hidden_state
    return state


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_base_model_from_a_head_and_a_head_from_a_base_model(family: str, tmp_path: Path) -> None:
    model = pruned(family)
    inputs = random_inputs(model)
    model.save_pretrained(tmp_path / "head")
    base = AutoModel.from_pretrained(tmp_path / "head")
    assert torch.equal(hidden_state(base, inputs), hidden_state(model.base_model, inputs))
    for name, each in {"loaded": base, "taken": model.base_model}.items():
        each.save_pretrained(tmp_path / name)
        again = AutoModelForSequenceClassification.from_pretrained(tmp_path / name, num_labels=3)
        assert torch.equal(hidden_state(again.base_model, inputs), hidden_state(base, inputs))
    AutoModelForMaskedLM.from_pretrained(tmp_path / "taken")


def test_a_part_loads_from_the_whole(tmp_path: Path) -> None:
    """CLIP's towers have configurations of their own, which a tower alone is built from."""
    model = tiny("clip")
    names = {site.name: [1, 3] for site in head_map(model).sites}
    remove_heads(model, names)
    model.save_pretrained(tmp_path)
    inputs = random_inputs(model)
    for kind, tower in (("CLIPVisionModel", model.vision_model), ("CLIPTextModel", model.text_model)):
        part = getattr(transformers, kind).from_pretrained(tmp_path)
        own = {key: value for key, value in inputs.items() if (key == "pixel_values") == (kind == "CLIPVisionModel")}
        assert torch.equal(hidden_state(part, own), hidden_state(tower, own))


@pytest.mark.slow
def test_without_the_import_loading_fails_loudly(saved: Path) -> None:
    code = f"import transformers; transformers.AutoModel.from_pretrained({str(saved)!r})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode != 0 and "mismatch" in ran.stderr + ran.stdout


def test_pipeline(saved: Path, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.save_pretrained(saved)
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    text = tiny_tokenizer.decode(range(5, 9))
    with torch.no_grad():
        expected = model(**tiny_tokenizer(text, return_tensors="pt")).logits.softmax(-1).max().item()
    assert pipeline("text-classification", model=str(saved))(text)[0]["score"] == pytest.approx(expected, abs=1e-6)


def test_trainer_checkpoints(tmp_path: Path) -> None:
    model = pruned("bert")
    inputs = random_inputs(model, batch=4)
    rows = [{**{name: x[i] for name, x in inputs.items()}, "labels": i % 3} for i in range(4)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=1, report_to="none", use_cpu=True, disable_tqdm=True,
        dataloader_pin_memory=False, logging_strategy="no",
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows).train()
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert torch.equal(outputs(again, inputs), outputs(model, inputs))
    resumed = Trainer(again, arguments, train_dataset=rows)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert (outputs(again, inputs) - outputs(model, inputs)).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")  # LoRA on the empty site
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks transformers
@pytest.mark.filterwarnings(
    "ignore:Adapter 'default'. 2 LoRA tensor.s. have invalid shape"
)  # the empty site's, rightly
def test_peft_trains_saves_loads_and_merges(saved: Path, tmp_path: Path) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(saved)
    inputs = random_inputs(base)
    lora = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], r=2))
    optimizer = torch.optim.SGD(lora.parameters(), lr=1.0)
    for _ in range(2):
        lora(**inputs, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
    expected = outputs(lora, inputs)
    assert (expected - outputs(load(saved), inputs)).abs().max() > 1e-4
    lora.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(saved), tmp_path / "adapter"
    )
    assert torch.equal(outputs(again, inputs), expected)
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    assert (outputs(load(tmp_path / "merged"), inputs) - expected).abs().max() < 1e-5


def test_sentence_transformers(saved: Path, tiny_tokenizer: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tiny_tokenizer.save_pretrained(saved)
    transformer = Transformer(str(saved), max_seq_length=16)
    encoder = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension())], device="cpu")
    text = [tiny_tokenizer.decode(range(5, 9)), tiny_tokenizer.decode(range(7, 13))]
    expected = encoder.encode(text)
    encoder.save(str(tmp_path / "encoder"))
    assert (SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(text) == expected).all()


SITE = "bert.encoder.layer.1.attention"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"format_version": 2},
            r"config.json: structure of format version 2; this headcount reads version 1",
        ),
        ({"format_version": None}, "format version None"),
        ({"sites": None}, "needs 'sites' and nothing else"),
        ({"surprise": 1}, r"nothing else, got \['surprise'\]"),
        (
            {"sites": {SITE: {"heads": 4, "kept": [0, 4]}}},
            rf"site '{SITE}' is recorded to keep heads \[0, 4\] of 4",
        ),
        (
            {"sites": {SITE: {"heads": 4, "kept": [2, 0]}}},
            rf"site '{SITE}' is recorded to keep heads \[2, 0\]",
        ),
        (
            {"sites": {SITE: {"heads": 4, "kept": [True]}}},
            rf"site '{SITE}' is recorded to keep heads \[True\]",
        ),
        ({"sites": {SITE: {"kept": [0]}}}, f"site '{SITE}' needs 'heads' and 'kept'"),
        ({"sites": {SITE: 3}}, f"site '{SITE}' needs 'heads' and 'kept'"),
        (
            {"sites": {"nowhere": {"heads": 4, "kept": [0]}}},
            r"the recorded sites are not those of .*\['nowhere'\]",
        ),
    ],
)
def test_a_damaged_structure_is_named(saved: Path, changes: dict[str, Any], says: str) -> None:
    edit(saved, **changes)
    for way in (AutoModelForSequenceClassification.from_pretrained, skeleton):
        with pytest.raises(CorruptCheckpoint, match=says):
            way(saved)


def test_a_structure_that_contradicts_model_or_weights_is_named(saved: Path, tmp_path: Path) -> None:
    sites = json.loads((saved / "config.json").read_text())["quantization_config"]["sites"]
    edit(saved, sites={**sites, SITE: {"heads": 6, "kept": [0, 2]}})
    with pytest.raises(
        CorruptCheckpoint, match=f"site '{SITE[5:]}' is recorded with 6 heads, but the model is built with 4"
    ):
        AutoModel.from_pretrained(saved)
    edit(saved, sites={**sites, SITE: {"heads": 4, "kept": [0, 1, 2]}})
    for kind in (AutoModel, AutoModelForSequenceClassification):
        with pytest.raises(
            CorruptCheckpoint, match=rf"model.safetensors: site '.*{SITE[5:]}' should keep 3 heads of 8"
        ):
            kind.from_pretrained(saved)
    edit(saved, sites=sites)
    weights = load_file(saved / "model.safetensors")
    weights[f"{SITE}.output.dense.weight"] = torch.zeros(32, 8)
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CorruptCheckpoint, match=f"'{SITE}.output.dense.weight' has shape \\[32, 8\\] instead of \\[32, 16\\]"
    ):
        AutoModelForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("name", [f"{SITE}.self.query.weight", "classifier.bias"])
def test_missing_weights_are_not_drawn_at_random(name: str, saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    del weights[name]
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=f"not hold a whole .*: 1 weights are missing or .*, '{name}' the"):
        load(saved)


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.bias"] = torch.zeros(7)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match="1 weights are missing or have another shape, 'classifier.bias'"):
        load(tmp_path)


def test_what_is_no_plain_model_of_transformers(saved: Path, tmp_path: Path) -> None:
    file = saved / "config.json"
    config = json.loads(file.read_text()) | {"architectures": ["LLaMAForCausalLM"]}
    file.write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="was saved as LLaMAForCausalLM, which transformers does not have"):
        load(saved)
    file.write_text(json.dumps(config | {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}))
    with pytest.raises(UnsupportedModel, match="code of its own, which headcount does not run"):
        load(saved)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match="is a PEFT adapter, not a model. Merge it"):
        load(tmp_path / "adapter")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    model = tiny("bert")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CorruptCheckpoint, match="the weights cannot be loaded"):
        load(tmp_path)


def test_a_pruned_model_is_not_quantized_while_it_loads(saved: Path) -> None:
    """Transformers itself refuses two configurations, and names both."""
    with pytest.raises(ValueError, match="quantized with PrunedHeads but you are passing a FineGrainedFP8Config"):
        AutoModelForSequenceClassification.from_pretrained(
            saved, quantization_config=transformers.FineGrainedFP8Config()
        )


def test_files_that_are_no_checkpoint(saved: Path, tmp_path: Path) -> None:
    (saved / "config.json").write_text("{ not json")
    with pytest.raises(CorruptCheckpoint, match="config.json: not JSON"):
        load(saved)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorruptCheckpoint, match="no config.json"):
        load(tmp_path / "empty")
    with pytest.raises(BadRecipe, match="Cannot load a model from 'no-such-model'"):
        load("no-such-model")
    tiny("bert").save_pretrained(tmp_path / "cut")
    shutil.copy(tmp_path / "cut" / "config.json", tmp_path / "empty")
    with pytest.raises(CorruptCheckpoint, match="the weights cannot be loaded"):
        load(tmp_path / "empty")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CorruptCheckpoint):
        load(tmp_path / "cut")
