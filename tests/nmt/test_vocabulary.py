"""The vocabulary: special pieces, determinism, text there and back, and transformers' interface to it."""

import re
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from headcount.errors import BadData, BadRecipe
from headcount.nmt import TranslatorTokenizer, learn_vocabulary, read_vocabulary
from translators import TEXT

SIZE = 64
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
ALPHABET = sorted(set("".join(TEXT)))
known = st.text(ALPHABET, max_size=30)
anything = st.text(max_size=12) | st.lists(st.sampled_from([*SPECIAL, " ", "dog", "ѣ", "🙂", "\t"]), max_size=8).map(
    "".join
)
some = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TranslatorTokenizer:
    return learn_vocabulary(TEXT * 5, SIZE, tmp_path_factory.mktemp("vocabulary") / "vocabulary.model")


def normalised(text: str) -> str:
    return re.sub(" +", " ", text).strip()


def test_special_pieces_come_first(tokenizer: TranslatorTokenizer) -> None:
    assert len(tokenizer) == tokenizer.vocab_size == SIZE
    assert tokenizer.convert_ids_to_tokens(range(4)) == SPECIAL
    assert [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id] == [
        0, 1, 2, 3,
    ]  # fmt: skip


def test_the_same_text_makes_the_same_vocabulary(tokenizer: TranslatorTokenizer, tmp_path: Path) -> None:
    """Byte for byte, in a directory that is made for it, with nothing else left there."""
    file = tmp_path / "new" / "vocabulary.model"
    learn_vocabulary(TEXT * 5, SIZE, file)
    assert file.read_bytes() == Path(tokenizer.vocab_file).read_bytes() and list(file.parent.iterdir()) == [file]
    learn_vocabulary(TEXT * 5, SIZE - 4, file)
    assert len(TranslatorTokenizer(str(file))) == SIZE - 4


def test_of_very_many_lines_some_are_drawn_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headcount.nmt.vocabulary.MOST", 40)
    lines = [f"{line} {number}" for number, line in enumerate(TEXT * 20)]
    first, again = (learn_vocabulary(lines, SIZE, tmp_path / name) for name in ("a", "b"))
    assert first.digest == again.digest
    shown: list[list[str]] = []
    monkeypatch.setattr(
        "sentencepiece.SentencePieceTrainer.train", lambda **given: shown.append(list(given["sentence_iterator"]))
    )
    with pytest.raises((OSError, RuntimeError, TypeError)):  # nothing was learned
        learn_vocabulary(lines, SIZE, tmp_path / "c")
    assert len(shown[0]) == 40 and shown[0] == [line for line in lines if line in set(shown[0])]


@pytest.mark.parametrize("ids", [{}, {"pad_id": 0, "bos_id": -1, "eos_id": 2, "unk_id": 1}], ids=str)
def test_a_vocabulary_with_other_special_pieces_is_refused(ids: dict[str, int], tmp_path: Path) -> None:
    """SentencePiece's own defaults are others: unknown first, no padding."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 5), model_prefix=str(tmp_path / "m"), vocab_size=SIZE, minloglevel=2, **ids
    )
    with pytest.raises(BadData, match=r"m.model begins with the pieces <.*spm_train --pad_id=0 --bos_id=1"):
        read_vocabulary(tmp_path / "m.model")


@some
@given(text=known)
@example(text="  a   dog ")
@example(text="")
def test_there_and_back(tokenizer: TranslatorTokenizer, text: str) -> None:
    """Every character of the training text has a piece; runs of spaces are one, and none at the ends."""
    (ids,) = tokenizer.encode_lines([text])
    assert ids[-1] == 2 and not {0, 1, 2, 3} & set(ids[:-1])
    assert tokenizer.decode_lines([ids]) == [normalised(text)]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == normalised(text)


@some
@given(text=anything)
@example(text="</s>")
@example(text="a </s> b<pad>c<s><unk>")
@example(text="\x00\u2028\u200b\ufeff")
def test_ids_of_any_text(tokenizer: TranslatorTokenizer, text: str) -> None:
    """What reads like a special piece is text; and transformers' interface gives the same ids."""
    (ids,) = tokenizer.encode_lines([text])
    assert ids[-1] == 2 and not {0, 1, 2} & set(ids[:-1])
    assert tokenizer(text)["input_ids"] == ids
    assert "\n" not in tokenizer.decode_lines([ids])[0]


def test_the_end_stays_text_where_its_characters_are_unknown(tmp_path: Path) -> None:
    """A row of unknown characters is one piece: it must not be looked up by its name."""
    tokenizer = learn_vocabulary(["кот спит дома", "пёс идёт"] * 9, 16, tmp_path / "vocabulary.model")
    for text in ("</s>", "кот</s>", "<pad> <s>", "<unk>"):
        (ids,) = tokenizer.encode_lines([text])
        assert ids.count(2) == 1 and 3 in ids and tokenizer(text)["input_ids"] == ids
    assert tokenizer.decode_lines([tokenizer.encode_lines(["</s>"])[0]]) == [" ⁇ "]


def test_the_end_in_the_text_it_learns_from(tmp_path: Path) -> None:
    tokenizer = learn_vocabulary([*TEXT * 5, *["</s> is <pad>"] * 9], SIZE, tmp_path / "vocabulary.model")
    assert tokenizer.convert_ids_to_tokens(range(4)) == SPECIAL
    assert tokenizer.decode_lines(tokenizer.encode_lines(["a </s> <pad>"])) == ["a </s> <pad>"]


def test_many_lines_and_none(tokenizer: TranslatorTokenizer) -> None:
    ids = tokenizer.encode_lines(TEXT)
    assert ids == [tokenizer.encode_lines([line])[0] for line in TEXT] and tokenizer.encode_lines([]) == []
    assert tokenizer.decode_lines(ids) == TEXT
    assert tokenizer.decode_lines([[], [2], [0, 1, 2, 0]]) == ["", "", ""]


def test_words_begin_with_a_mark(tokenizer: TranslatorTokenizer) -> None:
    (ids,) = tokenizer.encode_lines(["two dogs run"])
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert [tokenizer.starts_word(piece) for piece in ids] == [piece.startswith("▁") for piece in pieces]
    assert sum(map(tokenizer.starts_word, ids)) == 3


# transformers' interface


def require_interfaces_agree(tokenizer: Any, lines: list[str]) -> None:
    ids = tokenizer.encode_lines(lines)
    both = tokenizer(lines, text_target=lines[::-1])
    assert both["input_ids"] == ids and both["labels"] == ids[::-1]
    assert both["attention_mask"] == [[1] * len(line) for line in ids]
    batch = tokenizer(lines, padding=True, return_tensors="pt")
    width = max(map(len, ids))
    assert batch["input_ids"].tolist() == [line + [0] * (width - len(line)) for line in ids]
    assert batch["attention_mask"].sum(1).tolist() == [len(line) for line in ids]
    assert tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True) == tokenizer.decode_lines(ids)


def test_transformers_interface(tokenizer: TranslatorTokenizer) -> None:
    require_interfaces_agree(tokenizer, TEXT)


def test_saved_and_loaded_elsewhere(tokenizer: TranslatorTokenizer, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tokenizer.save_pretrained(first)
    AutoTokenizer.from_pretrained(first).save_pretrained(second)
    for file in first.iterdir():
        file.unlink()
    again = AutoTokenizer.from_pretrained(second)
    assert type(again) is TranslatorTokenizer and len(again) == SIZE
    assert (second / "vocabulary.model").read_bytes() == Path(tokenizer.vocab_file).read_bytes()
    lines = [*TEXT, "</s> and <pad>"]
    assert again.encode_lines(lines) == tokenizer.encode_lines(lines)
    require_interfaces_agree(again, TEXT)


# Errors


@pytest.mark.parametrize(
    ("lines", "size", "error", "says"),
    [
        (TEXT, 15, BadRecipe, "Got a vocabulary of 15 pieces. Give 16 or more; 8000 is usual for small data."),
        (TEXT, 5000, BadData, "SentencePiece cannot make 5000 pieces of this text: at most .* Give fewer"),
        ([], 16, BadData, "SentencePiece cannot make 16 pieces of this text"),
        (["", " "], 16, BadData, "SentencePiece cannot make 16 pieces of this text"),
        (TEXT, 30, BadData, "SentencePiece cannot make 30 pieces of this text"),
    ],
)
def test_text_that_makes_no_vocabulary(
    lines: list[str], size: int, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        learn_vocabulary(lines, size, tmp_path / "vocabulary.model")
    assert not list(tmp_path.iterdir())
