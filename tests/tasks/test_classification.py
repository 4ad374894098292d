"""The classification task: labels agreed with the model, limits, tokens, heads, metrics."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
)
from transformers.utils import logging as library_logging

from headcount.errors import BadData, BadRecipe, CorruptCheckpoint, UnsupportedModel
from headcount.tasks import TASKS, Classification, Translation
from headcount.tasks.classification import PaddingCollator
from headcount.tasks.classifier import load_classifier

NLI = ("entailment", "neutral", "contradiction")
SORTED = tuple(sorted(NLI))
WORDS = (
    "red",
    "blue",
    "green",
    "a ball",
    "the box is old",
    "ann and bob",
    "yes",
    "no",
    "why not",
    "a b c d e f",
)


def write(path: Path, labels: list[str], pairs: bool = False) -> str:
    names = ("premise", "hypothesis") if pairs else ("sentence",)
    rows = [
        {name: f"{WORDS[(i + k) % len(WORDS)]} {i}" for k, name in enumerate(names)} | {"label": label, "source": "x"}
        for i, label in enumerate(labels)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def task(tmp_path: Path) -> Classification:
    train = write(tmp_path / "train.jsonl", list(NLI) * 10, pairs=True)
    return Classification(train, write(tmp_path / "validation.jsonl", list(NLI) * 5, pairs=True))


@pytest.fixture
def save_named(tiny_bert_dir: Path, tmp_path: Path) -> Any:
    """Saves a trained classifier with these names for its classes; or n classes without names."""

    def save(names: tuple[str, ...] | int) -> str:
        config = BertConfig.from_pretrained(tiny_bert_dir)
        if isinstance(names, int):
            config.num_labels = names
        else:
            config.id2label = dict(enumerate(names))
            config.label2id = {name: i for i, name in enumerate(names)}
        BertForSequenceClassification(config).save_pretrained(tmp_path / "named")
        return str(tmp_path / "named")

    return save


def test_the_table_of_tasks() -> None:
    assert TASKS["classification"] is Classification and TASKS["translation"] is Translation


def test_load(task: Classification) -> None:
    examples = task.load()
    assert examples.labels == ("contradiction", "entailment", "neutral")
    assert (examples.text, examples.stated) == (("premise", "hypothesis"), None)
    assert (len(examples.train), len(examples.development), len(examples.validation)) == (29, 1, 15)


def test_limits(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["a", "b"] * 20)
    validation = write(tmp_path / "validation.jsonl", ["a", "b"] * 5)

    def load(seed: int) -> Any:
        return Classification(train, validation, train_limit=8, validation_limit=3, seed=seed).load()

    first = load(1)
    assert first.validation.places == [1, 2, 3]
    assert len(first.train) == 8 and len(set(first.train.places)) == 8
    assert first.train.places == load(1).train.places != load(2).train.places
    assert len(first.development) == 2 and not {*first.development.places} & {*first.train.places}
    whole = Classification(train, validation, train_limit=99, development=5, validation_limit=99).load()
    assert (len(whole.train), len(whole.development), len(whole.validation)) == (35, 5, 10)
    assert sorted(whole.train.places + whole.development.places) == list(range(1, 41))
    with pytest.raises(BadRecipe, match="Cannot hold out 40 of the 40 examples"):
        Classification(train, validation, development=40).load()
    assert Classification(train, validation, train_limit=1).load().labels == ("a", "b")


def test_validation_label_unseen_in_training(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", ["a", "b"])
    validation = write(tmp_path / "validation.jsonl", ["a", "b", "c"])
    with pytest.raises(BadData, match=r"validation\.jsonl, line 3: label 'c' does not occur.*train\.jsonl.*a, b"):
        Classification(train, validation).load()
    assert Classification(train, validation, labels=("a", "b", "c")).load().labels == ("a", "b")


def test_one_label_is_nothing_to_learn(tmp_path: Path) -> None:
    train, validation = (write(tmp_path / f"{name}.jsonl", ["a", "a"]) for name in ("train", "validation"))
    with pytest.raises(BadData, match="one label only, 'a'"):
        Classification(train, validation).load()
    assert Classification(train, train).load().labels == ("a",)  # to evaluate, it is enough


@pytest.mark.parametrize(
    "fields",
    [
        {"max_length": 2},
        {"train_limit": 0},
        {"validation_limit": -1},
        {"seed": -1},
        {"text": ()},
        {"text": ("a", "b", "c")},
        {"text": ("a", "a")},
        {"text": ("a",), "label": "a"},
        {"labels": ("a",)},
        {"labels": ("a", "a")},
    ],
)
def test_bad_settings(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRecipe):
        Classification("train.tsv", "validation.tsv", **fields)


def test_a_new_head_depends_on_the_seed_only(tiny_bert_dir: Path, task: Classification) -> None:
    examples = task.load()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = task.model_for(str(tiny_bert_dir), examples)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    again = task.model_for(str(tiny_bert_dir), examples)
    other = load_classifier(str(tiny_bert_dir), examples.labels, seed=1)
    assert not first.trained and first.labels == examples.labels
    assert torch.equal(first.model.classifier.weight, again.model.classifier.weight)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)
    assert torch.equal(first.model.bert.pooler.dense.weight, other.model.bert.pooler.dense.weight)
    assert first.model.config.id2label == dict(enumerate(examples.labels))
    assert not first.model.training and first.model.dtype == torch.float32


def test_loading_is_quiet(
    tiny_bert_dir: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    verbosity, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        load_classifier(str(tiny_bert_dir), ("a", "b"))
    library_logging.disable_propagation()
    assert caplog.text == "" and capfd.readouterr().err == ""
    assert (library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()) == (verbosity, bars)


def test_a_trained_model_keeps_its_names_and_order(save_named: Any, task: Classification) -> None:
    classifier = task.model_for(save_named(NLI), task.load())
    assert classifier.trained and classifier.labels == NLI
    shouted = load_classifier(save_named(tuple(name.upper() for name in NLI)), SORTED, given=NLI)
    assert shouted.labels == NLI and shouted.model.config.id2label[0] == "ENTAILMENT"


def test_saved_and_loaded_again_it_is_trained(tiny_bert_dir: Path, tmp_path: Path, task: Classification) -> None:
    examples = task.load()
    task.model_for(str(tiny_bert_dir), examples).model.save_pretrained(tmp_path / "again")
    again = task.model_for(str(tmp_path / "again"), examples)
    assert again.trained and again.labels == examples.labels


def test_trained_classes_without_names(save_named: Any) -> None:
    source = save_named(3)
    with pytest.raises(BadData, match="trained to tell 3 classes, but does not name them.*--labels contradiction"):
        load_classifier(source, SORTED)
    assert load_classifier(source, SORTED, given=NLI).labels == NLI
    assert load_classifier(source, SORTED, stated=NLI).labels == NLI
    assert load_classifier(source, ("0", "1", "2")).trained
    with pytest.raises(BadData, match=r"which has 2 labels: 'classifier.*shape \(3,\), not \(2,\)"):
        load_classifier(source, ("0", "1"))


def test_models_that_cannot_be_loaded(tmp_path: Path, tiny_bert_dir: Path) -> None:
    with pytest.raises(BadRecipe, match="Cannot load a model from"):
        load_classifier(str(tmp_path / "nowhere"), ("a", "b"))
    BertConfig.from_pretrained(tiny_bert_dir).save_pretrained(tmp_path / "no-weights")
    with pytest.raises(BadRecipe, match="Cannot load a model from"):
        load_classifier(str(tmp_path / "no-weights"), ("a", "b"))
    (tmp_path / "sound").mkdir()
    (tmp_path / "sound" / "config.json").write_text('{"model_type": "encodec"}')
    with pytest.raises(UnsupportedModel, match="'encodec', for which transformers has no classifier"):
        load_classifier(str(tmp_path / "sound"), ("a", "b"))
    with pytest.raises(BadRecipe, match="Cannot load a tokenizer from"):
        Classification("a.tsv", "b.tsv").tokenizer_for(str(tmp_path / "nowhere"))


def test_missing_weights_are_not_made_up(tiny_bert_dir: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_bert_dir / "model.safetensors")
    del weights["encoder.layer.1.attention.self.query.weight"]
    BertConfig.from_pretrained(tiny_bert_dir).save_pretrained(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptCheckpoint, match=r"1 weights are missing.*layer\.1\.attention\.self\.query\.weight"):
        load_classifier(str(tmp_path), ("a", "b"))


def test_broken_weights(tiny_bert_dir: Path, tmp_path: Path) -> None:
    BertConfig.from_pretrained(tiny_bert_dir).save_pretrained(tmp_path)
    weights = (tiny_bert_dir / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(CorruptCheckpoint, match="cannot be read.*again"):
        load_classifier(str(tmp_path), ("a", "b"))


def test_tokenize(task: Classification, tiny_tokenizer: Any) -> None:
    examples = task.load()
    data = task.tokenize(tiny_tokenizer, examples.train, NLI)
    assert data.column_names == ["input_ids", "token_type_ids", "attention_mask", "labels", "length"]
    assert list(data["labels"]) == [NLI.index(label) for label in examples.train.labels]
    assert list(data["length"]) == [len(ids) for ids in data["input_ids"]]
    first = examples.train.rows[0]
    assert tiny_tokenizer.decode(data[0]["input_ids"]) == f"[CLS] {first['premise']} [SEP] {first['hypothesis']} [SEP]"
    batch = task.collator(tiny_tokenizer)([data[i] for i in range(3)])
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert batch["input_ids"].shape == (3, max(data["length"][:3]))
    assert batch["attention_mask"].sum(dim=1).tolist() == data["length"][:3]
    assert batch["labels"].tolist() == [0, 1, 2]


def test_pairs_lose_the_longer_side_first(tmp_path: Path, tiny_tokenizer: Any) -> None:
    rows = {"premise": "abcdefghijklmnop", "hypothesis": "xyz", "label": "a"}
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps(rows) + "\n" + json.dumps(rows | {"label": "b"}) + "\n")
    for limit, wanted in ((12, 12), (4000, 22)):
        task = Classification(str(source), str(source), max_length=limit)
        data = task.tokenize(tiny_tokenizer, task.load().train, ("a", "b"))
        assert data[0]["length"] == wanted
        assert tiny_tokenizer.decode(data[0]["input_ids"]).endswith("[SEP] xyz [SEP]")
    source.write_text(json.dumps(rows | {"premise": "a " * 999}) + "\n" + json.dumps(rows | {"label": "b"}) + "\n")
    data = task.tokenize(tiny_tokenizer, task.load().train, ("a", "b"))
    assert data[0]["length"] == tiny_tokenizer.model_max_length


def test_tokenizer_without_padding(tiny_tokenizer: Any, tiny_bert_dir: Path, tmp_path: Path) -> None:
    task = Classification("a.tsv", "b.tsv")
    assert task.tokenizer_for(str(tiny_bert_dir)).pad_token == "[PAD]"
    loaded = task.tokenizer_for(str(tiny_bert_dir))
    loaded.pad_token, loaded.eos_token = None, "[SEP]"
    loaded.save_pretrained(tmp_path)
    assert task.tokenizer_for(str(tmp_path)).pad_token in ("[PAD]", "[SEP]")


def test_metrics_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    guess = np.array([0, 0, 1, 1, 2, 2])
    # F1: label 0 has precision 1, recall 2/3: 4/5. Label 1 has 1/2 and 1/2: 1/2. Label 2 has 1/2 and 1: 2/3.
    wanted = {"accuracy": 4 / 6, "macro_f1": (4 / 5 + 1 / 2 + 2 / 3) / 3}
    logits = np.eye(4, dtype=np.float32)[guess]  # a fourth label, which nobody has and nobody says
    assert Classification.metrics(logits, truth) == pytest.approx(wanted)
    assert Classification.metrics(np.eye(2)[[1, 1]], np.array([0, 0])) == {"accuracy": 0.0, "macro_f1": 0.0}


def test_evaluate(task: Classification, tiny_bert_dir: Path) -> None:
    examples, tokenizer = task.load(), task.tokenizer_for(str(tiny_bert_dir))
    classifier = task.model_for(str(tiny_bert_dir), examples)
    with torch.no_grad():
        classifier.model.classifier.weight.normal_(std=3.0, generator=torch.Generator().manual_seed(0))
    data = task.tokenize(tokenizer, examples.validation, classifier.labels)
    collator = task.collator(tokenizer)
    figures = [task.evaluate(classifier.model, data, collator, batch_size=size) for size in (1, 4, 15, 64)]
    figures.append(task.evaluate(classifier.model, shuffled(data), collator, batch_size=4))
    assert all(figure == figures[0] for figure in figures)
    right = [classifier.model(**collator([row])).logits.argmax().item() == row["labels"] for row in data]
    assert figures[0]["accuracy"] == pytest.approx(sum(right) / 15)
    assert 0 < figures[0]["accuracy"] < 1
    for training in (True, False):
        classifier.model.train(training)
        classifier.model.bert.eval()
        task.evaluate(classifier.model, data, collator)
        assert classifier.model.training is training
        assert not classifier.model.bert.embeddings.training


def shuffled(data: Dataset) -> Dataset:
    return data.select(np.random.default_rng(0).permutation(len(data)))


def test_training_mode_comes_back_after_an_error(
    task: Classification, tiny_bert_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = task.load()
    model = task.model_for(str(tiny_bert_dir), examples).model.train()
    tokenizer = task.tokenizer_for(str(tiny_bert_dir))
    data = task.tokenize(tokenizer, examples.validation, examples.labels)

    def broken(examples: Any) -> Any:
        raise KeyError("input_ids")

    monkeypatch.setattr(PaddingCollator, "__call__", lambda self, examples: broken(examples))
    with pytest.raises(KeyError, match="input_ids"):
        task.evaluate(model, data, task.collator(tokenizer))
    assert model.training
