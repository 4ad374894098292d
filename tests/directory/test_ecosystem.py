"""What users do with models, one of each kind: pipelines, adapters and embeddings work on a pruned directory."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from transformers import pipeline

from families import FAMILIES, tiny
from headcount.anatomy import head_map, survey
from headcount.anatomy.example import random_inputs
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs

# Family -> the layers that adapters go on: separate, fused and shared-key/value projections.
ADAPTED: dict[str, list[str]] = {
    "bert": ["query", "value"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "gpt2": ["c_attn"],
    "t5": ["q", "v"],
    "vit": ["q_proj", "v_proj"],
}


def pruned(family: str, empty: bool = False, **settings: Any) -> Any:
    """A tiny model with heads gone in every site, in all of the first one if so asked."""
    model = tiny(family, **settings)
    first = head_map(model).sites[0].name
    remove_heads(model, {site.name: [0, 2] for site in head_map(model).sites} | ({first: []} if empty else {}))
    return model


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks transformers
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set:UserWarning")  # peft finds out by itself that Conv1D is so
@pytest.mark.parametrize("family", ADAPTED)
def test_lora_trains_saves_loads_and_merges(family: str, tmp_path: Path) -> None:
    auto = getattr(transformers, FAMILIES[family].auto)
    pruned(family).save_pretrained(tmp_path / "base")
    base = auto.from_pretrained(tmp_path / "base")
    inputs = random_inputs(base)
    before = outputs(base, inputs)
    lora = peft.get_peft_model(base, peft.LoraConfig(target_modules=ADAPTED[family], r=2))
    optimizer = torch.optim.SGD(lora.parameters(), lr=1.0)
    for _ in range(2):
        lora.train()
        lora(**inputs)[0].square().mean().backward()
        optimizer.step()
    expected = outputs(lora, inputs)
    assert (expected - before).abs().max() > 1e-4
    lora.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(auto.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    assert torch.equal(outputs(again, inputs), expected)
    merged = again.merge_and_unload()
    assert {len(live.kept) for live in survey(merged)} == {2}
    merged.save_pretrained(tmp_path / "merged")
    assert (outputs(auto.from_pretrained(tmp_path / "merged"), inputs) - expected).abs().max() < 1e-5


def test_text_generation_pipeline(tiny_tokenizer: Any, tmp_path: Path) -> None:
    """A decoder whose first layer has no heads, padded on the left in a batch."""
    vocabulary = len(tiny_tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(**FAMILIES["llama"].settings | {"vocab_size": vocabulary})
        model = transformers.LlamaForCausalLM(config).eval()
    names = [site.name for site in head_map(model).sites]
    remove_heads(model, {names[0]: [], names[1]: [0, 1]})
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    generate = pipeline("text-generation", model=str(tmp_path), device="cpu")
    generate.tokenizer.padding_side = "left"
    texts = ["a fox", "the lazy dog sleeps"]
    options = {"max_new_tokens": 4, "do_sample": False, "return_full_text": False}
    together = [out[0]["generated_text"] for out in generate(texts, batch_size=2, **options)]
    for text, found in zip(texts, together, strict=True):
        inputs = generate.tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert found == generate.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize(("task", "family"), [("feature-extraction", "bart"), ("fill-mask", "bert")])
def test_text_pipelines(task: str, family: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    settings = FAMILIES[family].settings | {"vocab_size": len(tiny_tokenizer)}
    config = getattr(transformers, FAMILIES[family].config)(**settings)
    auto = transformers.AutoModelForMaskedLM if task == "fill-mask" else transformers.AutoModel
    model = auto.from_config(config).eval()
    remove_heads(model, {site.name: [1] for site in head_map(model).sites})
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    run, text = pipeline(task, model=str(tmp_path), device="cpu"), "a [MASK] fox"
    inputs = tiny_tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        expected = model(**inputs)[0]
    if task == "fill-mask":
        place = int((inputs["input_ids"][0] == tiny_tokenizer.mask_token_id).nonzero())
        assert run(text)[0]["score"] == pytest.approx(float(expected[0, place].softmax(-1).max()), abs=1e-6)
    else:
        assert torch.allclose(torch.tensor(run(text)), expected, atol=1e-6)


def test_a_decoder_embeds_sentences(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    config = transformers.Qwen3Config(**FAMILIES["qwen3"].settings | {"vocab_size": len(tiny_tokenizer)})
    model = transformers.Qwen3Model(config).eval()
    names = [site.name for site in head_map(model).sites]
    remove_heads(model, {names[0]: [], names[2]: [2, 3]})
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    transformer = Transformer(str(tmp_path / "model"), max_seq_length=16)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    encoder = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    expected = encoder.encode(["a fox", "the dog"])
    encoder.save(str(tmp_path / "encoder"))
    again = SentenceTransformer(str(tmp_path / "encoder"), device="cpu")
    assert (again.encode(["a fox", "the dog"]) == expected).all()
    inputs = tiny_tokenizer("a fox", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        assert torch.allclose(torch.tensor(expected[0]), model(**inputs).last_hidden_state[0, -1], atol=1e-5)
