"""A model in which three heads provably carry all the information and the others none: methods must find these."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from headcount.anatomy import head_map
from headcount.experiments.recipe import Recipe
from headcount.experiments.run import evaluate, run_recipe
from headcount.gates.hooks import masked
from headcount.methods import METHODS
from headcount.settings.training import TrainingSettings

WIDTH, SIZE, LAYERS = 32, 8, 2
PLANTED = {0: [1, 3], 1: [2]}
"""Layer -> its heads that carry something."""
BITS = (("a", "b"), ("f", "g"), ("m", "n"))
"""What each planted head looks for: which of two letters a sentence has."""
FILL = "qrstuvwxyz"
# Dimensions of the residual stream: the k-th planted head finds its letter by MARK + k, reads VALUE + k, and writes
# FOUND + k.
MARK, VALUE, FOUND, ONE = 0, 3, 6, 9
CHOOSES = sorted(set(METHODS) - {"unpruned", "random", "fewer-heads"})
"""Those three look at nothing when they choose, or do not choose."""
TRAINING = TrainingSettings(epochs=2.0, batch_size=8, lr=1e-20, checkpoint_every=0)
"""The weights stand still: with any step at all, heads that write nothing would begin to, and Adam would let their
scores rise with tiny gradients as fast as with large ones."""
OPTIONS: dict[str, dict[str, Any]] = {
    "voita": {"lambda": 0.05},
    "lottery": {"late_reset": 2, "iteration": 1},
    "reinit": {"late_reset": 2, "iteration": 1},
    "michel": {"examples": 128},
}


@torch.no_grad()
def planted(tokenizer: Any) -> BertForSequenceClassification:
    """The class is whether two or three of the three letters are the second of their pair; [CLS] votes by three heads.

    All heads but the planted write nothing: the columns of the output projection that read them are zero. So does the
    rest of each layer, and the embeddings of positions and segments are zero.
    """
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=WIDTH // SIZE,
        intermediate_size=16, max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        id2label={0: "few", 1: "many"}, label2id={"few": 0, "many": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    for name, parameter in model.named_parameters():
        parameter.fill_(float("LayerNorm.weight" in name))
    words = model.bert.embeddings.word_embeddings.weight
    words[:, ONE] = 1.0
    for k, pair in enumerate(BITS):
        for value, letter in zip((-1.0, 1.0), pair, strict=True):
            words[tokenizer.convert_tokens_to_ids(letter), MARK + k] = 4.0
            words[tokenizer.convert_tokens_to_ids(letter), VALUE + k] = 4.0 * value
    places = [(layer, head) for layer, heads in PLANTED.items() for head in heads]
    for layer in range(LAYERS):
        attention = model.bert.encoder.layer[layer].attention
        for head in range(WIDTH // SIZE):
            rows = slice(head * SIZE, (head + 1) * SIZE)
            attention.self.value.weight[rows].normal_()
            if (layer, head) in places:
                k, row = places.index((layer, head)), head * SIZE
                attention.self.query.weight[row, ONE] = 20.0
                attention.self.key.weight[row, MARK + k] = 20.0
                attention.self.value.weight[row] = torch.eye(WIDTH)[VALUE + k]
                attention.output.dense.weight[FOUND + k, row] = 1.0
    model.bert.pooler.dense.weight.copy_(torch.eye(WIDTH) * 0.3)
    for k in range(len(BITS)):
        model.classifier.weight[0, FOUND + k], model.classifier.weight[1, FOUND + k] = -3.0, 3.0
    return model.eval()


@pytest.fixture(scope="module")
def place(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the model, and sentences of three telling letters among others."""
    directory = tmp_path_factory.mktemp("planted")
    planted(tiny_tokenizer).save_pretrained(directory / "model")
    tiny_tokenizer.save_pretrained(directory / "model")
    generator = torch.Generator().manual_seed(0)
    for name, count in {"train": 1000, "validation": 64}.items():
        rows = []
        for _ in range(count):
            bits = torch.randint(2, (len(BITS),), generator=generator).tolist()
            letters = [pair[bit] for pair, bit in zip(BITS, bits, strict=True)]
            letters += [FILL[i] for i in torch.randint(len(FILL), (3,), generator=generator).tolist()]
            order = torch.randperm(len(letters), generator=generator).tolist()
            rows.append({"sentence": " ".join(letters[i] for i in order), "label": "many" if sum(bits) > 1 else "few"})
        (directory / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return directory


def recipe(place: Path, method: str, model: Path | None = None) -> Recipe:
    data = {"train": str(place / "train.jsonl"), "validation": str(place / "validation.jsonl"), "development": 64}
    source = str(model or place / "model")
    return Recipe(source, method, 3, data, options=OPTIONS.get(method, {}), training=TRAINING)


def test_the_planted_heads_carry_all(place: Path, tiny_tokenizer: Any) -> None:
    """With them the model makes no mistake; the others change nothing; each of them is needed."""
    task = recipe(place, "michel").make_task()
    assert evaluate(str(place / "model"), task)["accuracy"] == 1.0
    model, whole = planted(tiny_tokenizer), None
    names = [site.name for site in head_map(model).sites]
    subset = head_map(model).subset({names[layer]: heads for layer, heads in PLANTED.items()})
    rows = task.tokenize(tiny_tokenizer, task.load().validation, ("few", "many"))
    batch = task.collator(tiny_tokenizer)([rows[i] for i in range(len(rows))])
    with torch.no_grad():
        whole = model(**batch).logits
        with masked(model, subset):
            assert torch.allclose(model(**batch).logits, whole, atol=1e-5)
        for head in subset:
            with masked(model, subset - head_map(model).subset({head.site: [head.index]})):
                assert (model(**batch).logits.argmax(-1) == batch["labels"]).float().mean() < 0.95


@pytest.mark.parametrize(
    "method",
    [name if name == "gradual" else pytest.param(name, marks=pytest.mark.slow) for name in CHOOSES],
)
def test_methods_find_them(method: str, place: Path, tmp_path: Path) -> None:
    record = run_recipe(recipe(place, method), tmp_path / "out")
    assert list(record.subset.values()) == list(PLANTED.values())
    if method != "reinit":  # whose weights are new
        assert record.metrics["accuracy"] == 1.0
