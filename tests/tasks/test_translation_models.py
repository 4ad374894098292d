"""Models as users have them, through the task of translation: many languages, few positions, half precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartTokenizer,
    NllbTokenizer,
    T5Config,
    T5ForConditionalGeneration,
)
from translation_recipes import QUICK, SHAPE, recipe

from headcount import run_recipe
from headcount.directory.model_files import load
from headcount.errors import BadData, BadRecipe
from headcount.experiments.distillation import Distillation, distil
from headcount.experiments.recipe import Recipe, make_task
from headcount.experiments.run import evaluate
from headcount.nmt import Search
from headcount.settings.training import TrainingSettings, with_a_length
from headcount.tasks import Translation
from headcount.tasks.translation_batches import shorten_pairs
from headcount.tasks.translation_measures import translations
from headcount.tasks.translation_models import speaking, start_of
from recipes import slow

PIECES = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz▁"]
CODES = ("deu_Latn", "eng_Latn")


def save_trained(directory: Path, data: dict[str, Any]) -> str:
    """A translation model of our own that is taken as trained."""
    prepared = Translation(**data).prepare(SHAPE, directory / "vocabulary")
    prepared.model.save_pretrained(directory / "model")
    prepared.tokenizer.save_pretrained(directory / "model")
    return str(directory / "model")


@pytest.fixture
def nllb(tmp_path: Path) -> str:
    tokenizer = NllbTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}, merges=[])
    config = M2M100Config(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        M2M100ForConditionalGeneration(config).save_pretrained(tmp_path / "nllb")
    tokenizer.save_pretrained(tmp_path / "nllb")
    return str(tmp_path / "nllb")


def test_a_model_of_many_languages_is_told_which(nllb: str, parallel: dict[str, Any]) -> None:
    own = {name: value for name, value in parallel.items() if name != "vocabulary"}
    with pytest.raises(BadRecipe, match="a NllbTokenizer, which translates between many languages. Name source and"):
        Translation(**own).prepare(nllb)
    with pytest.raises(BadRecipe, match="does not know the languages en and de"):
        Translation(**own, languages=("en", "de")).prepare(nllb)
    prepared = Translation(**own, languages=("de", "en"), codes=CODES).prepare(nllb)
    tokens = prepared.tokenizer.convert_ids_to_tokens
    for row in prepared.train:
        assert (tokens(row["input_ids"][0]), tokens(row["labels"][0])) == CODES
    english = prepared.tokenizer.convert_tokens_to_ids("eng_Latn")
    assert start_of(prepared.tokenizer) == {"forced_bos_token_id": english}
    batch = prepared.tokenizer(["ein hund"], return_tensors="pt")
    written = prepared.model.generate(**batch, max_new_tokens=3, **start_of(prepared.tokenizer))
    assert written[0, 1] == english
    assert len(list(translations(prepared.model, prepared.tokenizer, ["ein hund", ""], 1))) == 2


def test_where_a_decoder_begins_with_the_language() -> None:
    """MBart's labels end in it, and are shifted so that it comes first."""
    tokenizer = speaking(MBartTokenizer(vocab=[(piece, 0.0) for piece in PIECES]), ("de_DE", "en_XX"), "mbart")
    assert start_of(tokenizer) == {"decoder_start_token_id": tokenizer.convert_tokens_to_ids("en_XX")}
    rows = Dataset.from_list([{"input_ids": [*range(4, 14), 2, 30], "labels": [5, 2, 31], "length": 12}])
    cut, count = shorten_pairs(rows, 6, [0, 1, 2, 3, 30, 31])
    assert count == 1 and cut[0] == {"input_ids": [4, 5, 6, 7, 2, 30], "labels": [5, 2, 31], "length": 6}
    encoded = tokenizer("ein hund", text_target="a dog")
    assert [tokenizer.convert_ids_to_tokens(encoded[side][-1]) for side in ("input_ids", "labels")] == [
        "de_DE",
        "en_XX",
    ]


def test_models_are_kept_to_their_positions(parallel: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = Translation(**parallel).prepare(SHAPE, tmp_path).tokenizer
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=0, forced_eos_token_id=None, max_position_embeddings=20,
    )  # fmt: skip
    model = MarianMTModel(config)
    with torch.no_grad():
        model.final_logits_bias[:, 2] = -1e4  # it does not stop by itself
    model.save_pretrained(tmp_path / "marian")
    tokenizer.save_pretrained(tmp_path / "marian")
    for side in ("en", "de"):
        (tmp_path / f"long.{side}").write_text("one two three four five six seven eight nine ten eleven\nten\n" * 9)
    long = f"{tmp_path}/long.en,{tmp_path}/long.de"
    task = Translation(**parallel | {"train": long, "development": long, "validation": long})
    prepared = task.prepare(str(tmp_path / "marian"))
    assert max(prepared.train["length"]) <= 20 == max(prepared.development["length"])
    assert "(9 cut to the 20 pieces that the model reads)" in prepared.summary
    assert all(row["input_ids"][-1] == row["labels"][-1] == 2 for row in prepared.development)
    assert set(task.follow(prepared.model, prepared.development, prepared.collator)) == {"bleu", "chrf", "loss"}
    assert set(evaluate(str(tmp_path / "marian"), task)) == {"bleu", "chrf"}


def test_what_is_measured_on_may_be_long_or_empty(parallel: dict[str, Any], tmp_path: Path) -> None:
    model = save_trained(tmp_path, parallel)
    for name, line in (("long", "ten " * 200), ("empty", "")):
        for side in ("en", "de"):
            (tmp_path / f"{name}.{side}").write_text(f"{line.strip()}\n" * 2)
        pairs = f"{tmp_path}/{name}.en,{tmp_path}/{name}.de"
        assert set(evaluate(model, Translation(pairs, pairs, beam=1))) == {"bleu", "chrf"}
    with pytest.raises(BadData, match="has no pair with text on both sides"):
        Translation(pairs, pairs).load()


@slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_trained_in_float32_and_written_as_it_was(
    dtype: torch.dtype, parallel: dict[str, Any], tmp_path: Path
) -> None:
    whole = save_trained(tmp_path, parallel)
    half = load(whole).to(dtype)
    for name, model in (("half", half), ("same", half.float())):
        model.to(dtype if name == "half" else torch.float32).save_pretrained(tmp_path / name)
        Translation(**parallel).prepare(whole).tokenizer.save_pretrained(tmp_path / name)
    told: list[str] = []
    found = {}
    for name in ("half", "same"):
        run_recipe(recipe("gradual", 3, parallel, str(tmp_path / name)), tmp_path / f"{name}-out", told.append)
        found[name] = load(tmp_path / f"{name}-out").state_dict()
    assert sum("works on it in float32, and writes it as it was stored" in line for line in told) == 1
    for name, weight in found["half"].items():
        assert weight.dtype == dtype and torch.equal(weight, found["same"][name].to(dtype)), name


@slow
def test_what_half_precision_keeps_in_float32_stays_so(parallel: dict[str, Any], tmp_path: Path) -> None:
    """T5 in float16 keeps the second layers of its feed-forward networks in float32."""
    tokenizer = Translation(**parallel).prepare(SHAPE, tmp_path).tokenizer
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2, pad_token_id=0,
        eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).half().save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    before = {name: tensor.dtype for name, tensor in load(tmp_path / "t5").named_parameters()}
    assert {torch.float16, torch.float32} == {*before.values()}
    record = run_recipe(recipe("gradual", 3, parallel, str(tmp_path / "t5")), tmp_path / "out")
    after = {name: tensor.dtype for name, tensor in load(tmp_path / "out").named_parameters()}
    assert {name: before[name] for name in after} == after
    assert evaluate(str(tmp_path / "out"), Translation(**parallel | {"vocabulary": None})) == record.metrics


@slow
def test_a_model_that_is_there_goes_on_to_learn(parallel: dict[str, Any], tmp_path: Path) -> None:
    """A student that is a directory is trained, whether or not anybody says how long; its record knows the teacher."""
    model = save_trained(tmp_path, parallel)
    own = {name: value for name, value in parallel.items() if name != "vocabulary"}
    training = replace(QUICK, steps=None)
    plan = Distillation(model, model, own, Search(2, best=2), training)
    record = distil(plan, tmp_path / "student")
    assert record.costs["training"]["steps"] > 0 and record.recipe["training"]["epochs"] == 3
    teacher = record.notes["teacher"]
    assert teacher["model"].endswith("/model") and teacher["search"]["best"] == 2 and len(teacher["weights"]) == 32
    card = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    assert "all of its 8 attention heads" in card and f"translations of `{teacher['model']}`" in card
    assert "tags: [headcount]" in card and "`nrefs:1|case:mixed" in card


def test_how_long_nobody_said() -> None:
    assert with_a_length(TrainingSettings()).epochs == 3 and with_a_length(TrainingSettings(epochs=0.5)).epochs == 0.5
    assert with_a_length(TrainingSettings(steps=7)).epochs is None


def test_names_of_what_is_not_there(parallel: dict[str, Any]) -> None:
    with pytest.raises(BadRecipe, match="'tiny-student' is a shape.* A new model of it is new:tiny-student"):
        Translation(**parallel).prepare("tiny-student")
    with pytest.raises(BadRecipe, match="there is nothing of that name here, and the Hub gives none"):
        Translation(**parallel | {"vocabulary": "nope.model"}).prepare(SHAPE)
    with pytest.raises(BadRecipe, match="The seed is the recipe's"):
        Recipe(SHAPE, "gradual", 3, {**parallel, "seed": 7}, task="translation")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocabulary", 120),
        ("coverage", 0.9),
        ("bleu_tokenize", "char"),
        ("languages", ("de", "en")),
        ("codes", CODES),
    ],
)
def test_what_decides_a_bleu_is_in_the_signature(name: str, value: Any, parallel: dict[str, Any]) -> None:
    plain = Recipe(SHAPE, "gradual", 3, parallel, task="translation")
    assert plain.signature(3, 8, 9) != replace(plain, data={**parallel, name: value}).signature(3, 8, 9)
    assert make_task("translation", parallel).signatures()["bleu"].startswith("nrefs:1|")
