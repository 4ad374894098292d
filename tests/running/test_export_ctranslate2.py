"""CTranslate2 computes what PyTorch does, whatever heads each site has; what it cannot hold is refused."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import sentencepiece
from torch import Tensor
from transformers import AutoTokenizer, MarianTokenizer

from exporting import TRANSLATORS, saved, saved_translator, words
from families import VOCABULARY
from headcount.anatomy import head_map
from headcount.errors import ExportFailed, UnsupportedModel
from headcount.running.export import ctranslate2 as ctranslate2_export
from headcount.running.export import export_model
from headcount.running.export.graph import example
from headcount.surgery.cut import remove_heads


def translate(directory: Path, source: Tensor, mask: Tensor) -> list[list[str]]:
    """Greedy translations by CTranslate2, as tokens."""
    tokens = json.loads((directory / "shared_vocabulary.json").read_text())
    texts = [
        [tokens[token] for token, there in zip(*rows, strict=True) if there] for rows in zip(source, mask, strict=True)
    ]
    translator = ctranslate2.Translator(str(directory), compute_type="float32", intra_threads=1)
    results = translator.translate_batch(texts, beam_size=1, max_decoding_length=9, disable_unk=False)
    return [each.hypotheses[0] for each in results]


@pytest.mark.parametrize(
    "name", [name if name in ("marian", "t5") else pytest.param(name, marks=pytest.mark.slow) for name in TRANSLATORS]
)
def test_translators(name: str, tmp_path: Path) -> None:
    """Uneven stacks with an empty first site: scores agree, and what is translated, token for token."""
    model = saved_translator(name, tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "out", "ctranslate2")
    assert 0 < exported.difference < 1e-5
    assert [note.partition(" heads padded to ")[0] for note in exported.notes] == ["encoder: 3", "decoder: 9"]
    assert "12, 2 at each site" in exported.notes[1] and "dead ones cost time" in exported.notes[1]
    if name == "mbart":  # without a language to begin with it starts no translation
        return
    inputs = example(model, 3, 8, seed=3)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    pad = int(model.config.pad_token_id)
    generated = model.generate(
        input_ids=ids, attention_mask=mask, num_beams=1, do_sample=False, max_new_tokens=9,
        bad_words_ids=[[pad]], forced_eos_token_id=None,
    )  # fmt: skip
    tokens = words(TRANSLATORS[name]).convert_ids_to_tokens(list(range(VOCABULARY)))
    ends = int(model.config.eos_token_id)
    expected = [
        [tokens[token] for token in row[1 : next((i for i, t in enumerate(row) if i and t in (ends, pad)), len(row))]]
        for row in generated.tolist()
    ]
    assert translate(tmp_path / "out", ids, mask) == expected and any(expected)


def test_even_stacks_are_not_padded(tmp_path: Path) -> None:
    """One head in the encoder and three in the decoder: two numbers of heads, and no dead ones."""
    model = saved_translator("marian", tmp_path / "whole", cut=False)
    kept = {site.name: [2] if site.kind == "encoder" else [0, 1, 3] for site in head_map(model).sites}
    remove_heads(model, kept).save_pretrained(tmp_path / "model")  # type: ignore[operator]
    words(TRANSLATORS["marian"]).save_pretrained(tmp_path / "model")
    exported = export_model(tmp_path / "model", tmp_path / "out", "ctranslate2")
    assert exported.notes == (
        "encoder: 3 heads, 1 at each site; none had to be padded",
        "decoder: 18 heads, 3 at each site; none had to be padded",
    )
    before = export_model(tmp_path / "whole", tmp_path / "whole-out", "ctranslate2")
    assert exported.files["model.bin"] < before.files["model.bin"]


def test_a_translator_with_its_own_tokenizer(tmp_path: Path) -> None:
    """A real MarianTokenizer, of sentencepieces learned from four sentences."""
    saved_translator("marian", tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).unlink()
    sentences = ["the cat sat on the mat", "a dog ran to the cat", "they sat and ran", "on a mat sat a dog"]
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=pieces, vocab_size=24, hard_vocab_limit=False, minloglevel=2
    )
    for name in ("source.spm", "target.spm"):
        (tmp_path / name).write_bytes(pieces.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces.getvalue())
    known = [processor.id_to_piece(number) for number in range(3, processor.get_piece_size())]
    tokens = ["<s>", "unused", "</s>", "<unk>", *known]
    tokens += [f"unused{number}" for number in range(VOCABULARY - len(tokens) - 1)] + ["<pad>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends another library
        tokenizer = MarianTokenizer(*(str(tmp_path / name) for name in ("source.spm", "target.spm", "vocab.json")))
        tokenizer.save_pretrained(tmp_path / "model")
        exported = export_model(tmp_path / "model", tmp_path / "out", "ctranslate2")
        again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert {"source.spm", "target.spm", "vocab.json", "shared_vocabulary.json"} < set(exported.files)
    assert type(again) is MarianTokenizer
    source = again.convert_ids_to_tokens(again("the dog sat")["input_ids"])
    assert source[-1] == "</s>" and "<unk>" not in source
    translator = ctranslate2.Translator(str(tmp_path / "out"))
    assert translator.translate_batch([source], max_decoding_length=5)[0].hypotheses[0]


def test_a_wrong_export_is_found_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CTranslate2 left to divide the width by the number of heads: it loads, and is wrong."""
    saved_translator("marian", tmp_path / "model")
    declare = ctranslate2_export.declare_heads

    def forget_the_head_size(spec: Any, stack: Any) -> None:
        declare(spec, stack)
        for layer in spec.layer:
            del vars(layer.self_attention)["head_dim"]

    monkeypatch.setattr(ctranslate2_export, "declare_heads", forget_the_head_size)
    with pytest.raises(ExportFailed, match=r"ctranslate2 .* differ from PyTorch's by .*e-.*; allowed is 1e-05"):
        export_model(tmp_path / "model", tmp_path / "out", "ctranslate2")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("family", ["bert", "gpt2", "vit"])
def test_what_ctranslate2_cannot_hold(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path / "model")
    with pytest.raises(UnsupportedModel, match="encoder-decoder models that generate.*Export it to onnx or openvino"):
        export_model(tmp_path / "model", tmp_path / "out", "ctranslate2")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
