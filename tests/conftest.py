"""What many tests need: no network, and a tiny BERT with its tokenizer in a directory."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the libraries are imported, so it comes first

import gc
import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A WordPiece tokenizer that spells every word in letters: one token a character, 64 tokens at most."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*SPECIAL, *characters, *(f"##{character}" for character in characters)]
    return BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=64)


@pytest.fixture(scope="session")
def tiny_bert_dir(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny BERT encoder of 2 layers of 4 heads, without any classification head."""
    directory = tmp_path_factory.mktemp("tiny-bert")
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory)
    tiny_tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("data")
    for name, count in {"train": 64, "validation": 12}.items():
        rows = [
            {"sentence": f"{'ab' if i % 3 else 'xyz'} {i}", "label": "yes" if i % 3 else "no"} for i in range(count)
        ]
        (directory / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return {name: str(directory / f"{name}.jsonl") for name in ("train", "validation")}


def pytest_collection_finish() -> None:
    """Every Trainer ends with a full garbage collection; what is imported by now need not be looked at each time."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--families-page", help="write what the tests of model families show to this file")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--families-page")
    if path and not hasattr(config, "workerinput"):  # of several processes the one that hears of all tests
        from families_page import FamiliesPage

        config.pluginmanager.register(FamiliesPage(Path(path)))
