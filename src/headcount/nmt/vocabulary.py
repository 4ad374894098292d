"""The vocabulary of a translation model: pieces of words, learned by SentencePiece, shared by both languages."""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from headcount.errors import BadData, BadRecipe
from headcount.settings.writing import write_bytes_atomically

PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
"""The first four pieces of every vocabulary, with the ids 0 to 3."""
UNKNOWN_ID = 3
MOST = 2_000_000
"""Lines that a vocabulary is learned from; more would take long, and change little."""


class TranslatorTokenizer(SentencePieceBackend):  # type: ignore[misc]  # transformers is untyped here
    """Sentences to ids and back, as a tokenizer of transformers; every sentence ends in `</s>`.

    What looks like a special piece in a text is text.
    """

    vocab_files_names = {"vocab_file": "vocabulary.model"}  # noqa: RUF012 as transformers wants it
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str, **kwargs: object) -> None:
        tokens = {"pad_token": PAD, "bos_token": START, "eos_token": END, "unk_token": UNKNOWN}
        super().__init__(vocab_file=vocab_file, **{**tokens, "split_special_tokens": True, **kwargs})

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """A sentence with its end. Pairs are no input of a translation model."""
        return [*token_ids_0, self.eos_token_id]

    def _tokenize(self, text: str, **kwargs: object) -> list[str]:
        """Pieces; unknown characters are `<unk>`: as they stand, a row of them that reads `</s>` would be the end."""
        pieces: list[str] = self.sp_model.id_to_piece(self.sp_model.encode(text, out_type=int))
        return pieces

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, with the end's."""
        ids: list[list[int]] = self.sp_model.encode(list(lines), out_type=int, add_eos=True)
        return ids

    @property
    def digest(self) -> str:
        """128 bits of SHA-256 over all pieces in their order: two vocabularies of one size are not the same."""
        pieces = (self.sp_model.id_to_piece(i) for i in range(self.sp_model.get_piece_size()))
        return hashlib.sha256("\n".join(pieces).encode()).hexdigest()[:32]

    def starts_word(self, piece: int) -> bool:
        """Whether a word begins with this piece."""
        return bool(self.sp_model.id_to_piece(piece).startswith("▁"))

    def decode_lines(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids, without special pieces."""
        return [self.sp_model.decode([i for i in line if i > 2]) for line in ids]


def read_vocabulary(file: Path) -> TranslatorTokenizer:
    """The vocabulary that SentencePiece wrote to a file.

    Raises:
        BadData: The file is none of SentencePiece's, or its special pieces are others than ours.
    """
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise BadData(
            f"{file} is no vocabulary: SentencePiece cannot read it. Give a model that it wrote, the directory of a "
            "translation model, or a number of pieces, and a vocabulary is learned."
        ) from error
    first = [pieces.id_to_piece(i) for i in range(min(4, pieces.get_piece_size()))]
    if first != [PAD, START, END, UNKNOWN]:
        raise BadData(
            f"{file} begins with the pieces {' '.join(first)}; of a translation model these are {PAD} {START} {END} "
            f"{UNKNOWN}. Train it with spm_train --pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3, or give a number of "
            "pieces."
        )
    return TranslatorTokenizer(str(file))


def learn_vocabulary(lines: Sequence[str], size: int, file: Path, coverage: float = 1.0) -> TranslatorTokenizer:
    """A vocabulary of this many pieces (Kudo 2018: a unigram language model), written to the file.

    Args:
        lines: Sentences of both languages; of more than two million, so many drawn at random, always the same.
        size: Pieces, the four special ones among them.
        file: Where it is kept, as SentencePiece's own model.
        coverage: Share of the characters that have a piece of their own; less than 1 for Chinese or Japanese.

    Raises:
        BadData: There is no text, or too little for so many pieces.
        BadRecipe: The size is too small.
    """
    if size < 16:
        raise BadRecipe(f"Got a vocabulary of {size} pieces. Give 16 or more; 8000 is usual for small data.")
    buffer = io.BytesIO()
    if len(lines) > MOST:  # SentencePiece would draw them itself, and others each time
        chosen = np.random.default_rng(0).choice(len(lines), MOST, replace=False)
        lines = [lines[row] for row in np.sort(chosen)]
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=buffer, vocab_size=size, character_coverage=coverage,
            pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece=PAD, bos_piece=START, eos_piece=END, unk_piece=UNKNOWN,
            max_sentence_length=16384, num_threads=1, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        most = re.search(r"value <= (\d+)", str(error))
        why = f"at most {most[1]} are possible. Give fewer, or more text." if most else str(error).strip()
        raise BadData(f"SentencePiece cannot make {size} pieces of this text: {why}") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(file, buffer.getvalue())
    return TranslatorTokenizer(str(file))
