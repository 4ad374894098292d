"""The task of translation, and the contract of every method on it, with a tiny model made for the purpose."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, MarianConfig, MarianMTModel
from translation_recipes import QUICK, SHAPE, STUDENT, recipe

from headcount import TrainingSettings, present, run_recipe
from headcount.directory.model_files import load
from headcount.errors import BadData, BadRecipe, UnsupportedModel
from headcount.experiments.run import evaluate
from headcount.gates.hooks import masked
from headcount.nmt import Translator
from headcount.surgery.cut import remove_heads
from headcount.tasks import Translation
from headcount.tasks.translation_batches import TranslationCollator
from headcount.tasks.translation_measures import mean_loss
from headcount.tasks.translation_models import load_translator, new_model
from headcount.units.map import Subset
from kills import Killed, kill_after
from recipes import PRUNING, require_dynamics, slow, some


@pytest.mark.parametrize("name", some(PRUNING, ("gradual",)))
def test_contract(name: str, parallel: dict[str, Any], tmp_path: Path) -> None:
    record = run_recipe(recipe(name, 3, parallel), tmp_path / "a")
    assert sum(map(len, record.subset.values())) == 3 and len(record.subset) == 4
    assert set(record.metrics) == {"bleu", "chrf"} and record.signature.startswith(f"method:{name}")
    assert "|task:translation|model:new:transformer-base,d_model=16" in record.signature
    assert "|steps:6|lr:0.01|batch:256t|" in record.signature
    assert record.notes["dropped"] == {"empty": 0, "too_long": 0}
    assert record.notes["metrics"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert record.costs["training"]["steps"] == 6
    looks = [look for look in record.dynamics if "loss" in look]
    assert all(set(look["development"]) == {"bleu", "chrf", "loss"} for look in looks)
    require_dynamics(name, looks, 3)
    model = load(tmp_path / "a")
    assert isinstance(model, Translator) and present(model).to_json() == record.subset
    assert evaluate(str(tmp_path / "a"), recipe(name, 3, parallel).make_task()) == record.metrics
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(card.partition("```python\n")[2].partition("```")[0].replace("this directory", str(tmp_path / "a")), names)
    assert len(present(names["model"])) == 3 and "size mismatch" not in card
    again = run_recipe(recipe(name, 3, parallel), tmp_path / "b")
    assert (again.subset, again.metrics) == (record.subset, record.metrics)
    weights = [load(tmp_path / each).state_dict() for each in ("a", "b")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@slow
@pytest.mark.parametrize(
    ("name", "steps"), [("dsp-joint", 3), ("gradual", 8), ("lottery", 3), ("lottery", 8), ("dsp-pipelined", 8)]
)
def test_a_killed_run_goes_on(
    name: str, steps: int, parallel: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two checkpoints, it ends as the run that nobody killed, with the vocabulary that it had made."""
    settings = replace(QUICK, steps=9, checkpoint_every=2)
    straight = run_recipe(recipe(name, 3, parallel, training=settings), tmp_path / "straight")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(steps, patch)
        run_recipe(recipe(name, 3, parallel, training=settings), tmp_path / "out")
    resumed = run_recipe(recipe(name, 3, parallel, training=settings), tmp_path / "out")
    assert (resumed.subset, resumed.metrics) == (straight.subset, straight.metrics)
    one, other = (load(tmp_path / each).state_dict() for each in ("straight", "out"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@slow
@pytest.mark.parametrize("name", PRUNING)
def test_bleu_is_the_same_before_and_after_surgery(
    name: str, parallel: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, before = recipe(name, 5, parallel).make_task(), {}

    def measured(model: Any, subset: Subset) -> Any:
        _, tokenizer = load_translator(str(tmp_path / "same"))
        pairs = task.tokenize(tokenizer, task.load()[2])
        with masked(model, subset):
            before.update(task.evaluate(model, pairs, TranslationCollator(tokenizer)))
        return remove_heads(model, subset)

    run_recipe(recipe(name, 5, parallel), tmp_path / "same")  # for its vocabulary
    monkeypatch.setattr("headcount.experiments.run.remove_heads", measured)
    record = run_recipe(recipe(name, 5, parallel), tmp_path / "out")
    assert before == pytest.approx(record.metrics, abs=0.005)


@slow
def test_a_lottery_over_the_encoder_counts_the_encoders_sites(parallel: dict[str, Any], tmp_path: Path) -> None:
    """One head for every two sites that have heads to lose, whatever other sites there are."""
    options = {"late_reset": 2, "iteration": 1}
    record = run_recipe(recipe("lottery", 1, parallel, sites="encoder", options=options), tmp_path / "a")
    assert record.notes["iterations"] == 3  # of two sites of two heads, one at a time


@pytest.mark.parametrize("keep", [0, 8])
@pytest.mark.parametrize("name", [pytest.param(name, marks=slow) for name in PRUNING])
def test_no_head_and_all(name: str, keep: int, parallel: dict[str, Any], tmp_path: Path) -> None:
    record = run_recipe(recipe(name, keep, parallel), tmp_path / "a")
    assert sum(map(len, record.subset.values())) == keep
    assert evaluate(str(tmp_path / "a"), recipe(name, keep, parallel).make_task()) == record.metrics


@pytest.mark.parametrize("name", some(PRUNING, ()))
def test_students_lose_encoder_heads_only(name: str, parallel: dict[str, Any], tmp_path: Path) -> None:
    record = run_recipe(recipe(name, 1, parallel, STUDENT, sites="encoder"), tmp_path / "a")
    counts = {site: len(heads) for site, heads in record.subset.items()}
    assert sum(count for site, count in counts.items() if site.startswith("encoder.")) == 1
    assert counts["decoder.layers.0.cross_attn"] == 2
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "a")
    assert model.config.decoder_type == "ssru" and model.config.dropout == 0.0


@slow
def test_pipelined_from_a_trained_model(parallel: dict[str, Any], tmp_path: Path) -> None:
    whole = run_recipe(recipe("unpruned", None, parallel), tmp_path / "whole")
    assert whole.heads == "encoder 2 2 | decoder 2 | cross 2" and (tmp_path / "whole" / "vocabulary.model").is_file()
    rest = TrainingSettings(batch_tokens=256)
    small = run_recipe(recipe("michel", 3, parallel, str(tmp_path / "whole"), training=rest), tmp_path / "small")
    assert "training" not in small.costs
    same = [(tmp_path / each / "vocabulary.model").read_bytes() for each in ("whole", "small")]
    assert same[0] == same[1]


def test_the_loss_does_not_depend_on_batches(parallel: dict[str, Any], tmp_path: Path) -> None:
    prepared = Translation(**parallel).prepare(SHAPE, tmp_path)
    losses = [mean_loss(prepared.model, prepared.development, prepared.collator, tokens) for tokens in (1, 64, 4096)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_a_trained_model_keeps_its_vocabulary(parallel: dict[str, Any], tiny_bert_dir: Path, tmp_path: Path) -> None:
    prepared = Translation(**parallel).prepare(SHAPE, tmp_path)
    for each in (prepared.model, prepared.tokenizer):
        each.save_pretrained(tmp_path / "trained")
    trained = str(tmp_path / "trained")
    for same in (None, 90, trained, str(tmp_path / "vocabulary.model")):
        Translation(**parallel | {"vocabulary": same}).prepare(trained)
    with pytest.raises(BadRecipe, match="with a vocabulary of 90 pieces of its own, but 'vocabulary' is 80. Leave"):
        Translation(**parallel | {"vocabulary": 80}).prepare(trained)
    with pytest.raises(BadRecipe, match="' has a Bert.*. Give a translation model of headcount's"):
        Translation(**parallel | {"vocabulary": str(tiny_bert_dir)}).prepare(SHAPE)


@slow
def test_a_vocabulary_that_is_there(parallel: dict[str, Any], tmp_path: Path) -> None:
    run_recipe(recipe("unpruned", None, parallel), tmp_path / "a")
    for given in (tmp_path / "a", tmp_path / "a" / "vocabulary.model"):
        task = Translation(**parallel | {"vocabulary": str(given)})
        tokenizer = task.prepare(SHAPE).tokenizer
        text = "The third of March"
        assert tokenizer.encode_lines([text]) == load_translator(str(tmp_path / "a"))[1].encode_lines([text])


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    sources = ["one two", "", "three", "   ", "four " * 60, "five", "six"] + ["seven eight"] * 8
    targets = ["eins zwei", "drei", "", "x", "vier " * 60, "fünf", "sechs"] + ["sieben acht"] * 8
    for name, lines in (("en", sources), ("de", targets)):
        with gzip.open(tmp_path / f"train.{name}.gz", "wt", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
    both = f"{tmp_path / 'train.en.gz'},{tmp_path / 'train.de.gz'}"
    task = Translation(both, both, development=2, vocabulary=30, max_length=30)
    prepared = task.prepare(SHAPE, tmp_path)
    assert prepared.notes["dropped"]["empty"] == 3 and len(prepared.development) == 2
    assert len(prepared.train) + len(prepared.development) + prepared.notes["dropped"]["too_long"] == 12
    assert len(prepared.validation) == 15  # nothing is left out of what is measured on
    assert max(prepared.train["length"]) <= 30
    assert set(task.evaluate(prepared.model, prepared.validation, prepared.collator)) == {"bleu", "chrf"}


def test_development_of_its_own(parallel: dict[str, Any]) -> None:
    task = Translation(**parallel | {"development": parallel["validation"]})
    train, development, validation, _ = task.load()
    assert development.sources == validation.sources and len(train) == 48
    held_out = Translation(**parallel).load()
    assert len(held_out[0]) == 32 and len(held_out[1]) == 16
    assert not set(held_out[0].sources) & set(held_out[1].sources)


def test_collator_pads(parallel: dict[str, Any], tmp_path: Path) -> None:
    prepared = Translation(**parallel).prepare(SHAPE, tmp_path)
    rows = [prepared.train[i] for i in range(3)]
    batch = TranslationCollator(prepared.tokenizer)(rows)
    for row, ids, mask, labels in zip(rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        assert ids[mask.bool()].tolist() == row["input_ids"] and not ids[~mask.bool()].any()
        assert labels[labels != -100].tolist() == row["labels"] and row["labels"][-1] == prepared.tokenizer.eos_token_id


def test_a_perfect_model_has_the_best_score(parallel: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    prepared = (task := Translation(**parallel)).prepare(SHAPE, tmp_path)
    references = list(prepared.validation["target"])
    monkeypatch.setattr("headcount.tasks.translation.translations", lambda *_: iter(references))
    assert task.evaluate(prepared.model, prepared.validation, prepared.collator) == pytest.approx(
        {"bleu": 100.0, "chrf": 100.0}
    )
    wrong = ["quite another thing" for _ in references]
    monkeypatch.setattr("headcount.tasks.translation.translations", lambda *_: iter(wrong))
    assert task.evaluate(prepared.model, prepared.validation, prepared.collator)["bleu"] < 5


def test_new_models_are_drawn_by_the_seed(parallel: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = Translation(**parallel).prepare(SHAPE, tmp_path).tokenizer
    before = torch.random.get_rng_state()
    a, b, c = (new_model(SHAPE, tokenizer, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(a.embedding.weight, b.embedding.weight) and not torch.equal(
        a.embedding.weight, c.embedding.weight
    )
    lists = new_model(f"{STUDENT},encoder_heads=2 0".replace("encoder_heads=2,", ""), tokenizer, 0)
    assert lists.config.heads("encoder_heads") == [2, 0] and str(present(lists)) == "encoder 2 | cross 2"


@slow
def test_models_of_other_libraries(parallel: dict[str, Any], tmp_path: Path) -> None:
    """Marian's model with our vocabulary: trained, followed, pruned, translated by its own `generate`."""
    tokenizer = Translation(**parallel).prepare(SHAPE, tmp_path).tokenizer
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=0, forced_eos_token_id=None, max_position_embeddings=256,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(tmp_path / "marian")
    tokenizer.save_pretrained(tmp_path / "marian")
    record = run_recipe(recipe("gradual", 3, parallel, str(tmp_path / "marian")), tmp_path / "out")
    assert record.heads == str(present(load(tmp_path / "out"))) and set(record.metrics) == {"bleu", "chrf"}
    with pytest.raises(UnsupportedModel, match=r"holds a MarianMTModel, not a translation model of headcount's"):
        load_translator(str(tmp_path / "out"))


def test_classifiers_do_not_translate(tiny_bert_dir: Path, parallel: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="does not translate"):
        run_recipe(recipe("michel", 3, parallel, str(tiny_bert_dir)), tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.checkpoints").exists()


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("new:tiny", r"Unknown shape 'tiny'\. Valid: transformer-base, transformer-big, iwslt_de_en, tiny-student"),
        ("new:tiny-student,width=3", r"Unknown field 'width' in .* Fields: d_model"),
        ("new:tiny-student,norm", r"Cannot read 'norm' in .* Write FIELD=VALUE; fields: d_model"),
        ("new:tiny-student,encoder_heads=2 2,d_model=8", r"'encoder_heads' is \[2, 2\], for 6 layers\. Give a number"),
        ("new:tiny-student,d_model", r"Cannot read 'd_model'"),
        ("new:tiny-student,decoder_heads=4", r"looks back with an SSRU, which has no heads\. Leave it"),
        ("new:tiny-student,pad_token_id=9", r"Unknown field 'pad_token_id'"),
        ("new:tiny-student,layer_norm_eps=-1", r"Got layer_norm_eps -1"),
        ("new:tiny-student,norm=side", r"Got norm 'side'\. Give one of post, pre"),
        ("new:tiny-student,encoder_heads=1 2", r"'encoder_heads' is \[1, 2\], for 6 layers"),
    ],
)
def test_shapes_that_are_none(shape: str, says: str, parallel: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=says):
        run_recipe(recipe("unpruned", None, parallel, shape), tmp_path / "out")
    assert not list(tmp_path.rglob("out*")) and not list(tmp_path.rglob("vocabulary*"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"beam": 0}, r"Got beam 0\. Give a whole number of at least 1"),
        ({"max_length": 3}, r"Got max_length 3"),
        ({"coverage": 0.0}, r"Got coverage 0\.0"),
        ({"bleu_tokenize": "17a"}, r"Unknown bleu_tokenize '17a'\. Valid: none, zh, 13a"),
    ],
)
def test_fields_that_make_no_sense(changes: dict[str, Any], says: str, parallel: dict[str, Any]) -> None:
    with pytest.raises(BadRecipe, match=says):
        Translation(**parallel | changes)


def test_too_little_data(parallel: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"Cannot hold out 48 of the 48 pairs"):
        Translation(**parallel | {"development": 48}).load()
    with pytest.raises(BadData, match=r"Every pair of .* is longer than 4 pieces"):
        Translation(**parallel | {"max_length": 4}).prepare(SHAPE, tmp_path)
    with pytest.raises(BadData, match=r"SentencePiece cannot make 5000 pieces of this text"):
        Translation(**parallel | {"vocabulary": 5000}).prepare(SHAPE, tmp_path / "b")
    with pytest.raises(BadRecipe, match=r"needs a directory to keep its vocabulary in"):
        Translation(**parallel).prepare(SHAPE)


@slow
def test_another_recipe_gets_a_vocabulary_of_its_own(parallel: dict[str, Any], tmp_path: Path) -> None:
    """A run that was refused leaves nothing that the next would take up."""
    with pytest.raises(BadRecipe, match="Cannot keep 9"):
        run_recipe(recipe("michel", 9, parallel), tmp_path / "out")
    assert not (tmp_path / "out.checkpoints").exists()
    directory = tmp_path / "out.checkpoints"
    directory.mkdir()
    (directory / "recipe.json").write_text(json.dumps({"model": "another"}))
    (directory / "vocabulary.model").write_bytes(b"another's")
    record = run_recipe(recipe("michel", 3, parallel), tmp_path / "out")
    assert len(record.subset) == 4


def test_best_weights_by_bleu(parallel: dict[str, Any], tmp_path: Path) -> None:
    training = replace(QUICK, keep_best=True, judge_by="loss", look_every=2, smoothing=0.1, lr=0.3)
    record = run_recipe(recipe("unpruned", None, parallel, training=training), tmp_path / "out")
    losses = [look["development"]["loss"] for look in record.dynamics]
    task = Translation(**parallel)
    prepared = task.prepare(str(tmp_path / "out"))
    assert task.follow(prepared.model, prepared.development, prepared.collator)["loss"] == pytest.approx(min(losses))
    assert "|smoothing:0.1|best:loss|" in record.signature
