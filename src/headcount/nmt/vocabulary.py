"""The vocabulary of a translation model. SentencePiece learns it, and both languages share it."""

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
"""The first four pieces of every vocabulary. Their ids are 0 to 3."""
UNKNOWN_ID = 3
MOST = 2_000_000
"""Maximum number of lines that a vocabulary is learned from. More lines take long and change little."""


class TranslatorTokenizer(SentencePieceBackend):  # type: ignore[misc]  # transformers is untyped here
    """A transformers tokenizer that uses SentencePiece. Every encoded sentence ends in `</s>`.

    The name of a special piece inside a text is encoded as text.
    """

    vocab_files_names = {"vocab_file": "vocabulary.model"}  # noqa: RUF012 as transformers wants it
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str, **kwargs: object) -> None:
        tokens = {"pad_token": PAD, "bos_token": START, "eos_token": END, "unk_token": UNKNOWN}
        super().__init__(vocab_file=vocab_file, **{**tokens, "split_special_tokens": True, **kwargs})

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Add the end token to a sentence. A second sentence is ignored."""
        return [*token_ids_0, self.eos_token_id]

    def _tokenize(self, text: str, **kwargs: object) -> list[str]:
        """Return the pieces of a text, with `<unk>` for unknown characters, which could otherwise spell `</s>`."""
        pieces: list[str] = self.sp_model.id_to_piece(self.sp_model.encode(text, out_type=int))
        return pieces

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the ids of each line, with the end token."""
        ids: list[list[int]] = self.sp_model.encode(list(lines), out_type=int, add_eos=True)
        return ids

    @property
    def digest(self) -> str:
        """Return 128 bits of SHA-256 over all pieces in order. It tells vocabularies of equal size apart."""
        pieces = (self.sp_model.id_to_piece(i) for i in range(self.sp_model.get_piece_size()))
        return hashlib.sha256("\n".join(pieces).encode()).hexdigest()[:32]

    def starts_word(self, piece: int) -> bool:
        """Return whether a word begins with this piece."""
        return bool(self.sp_model.id_to_piece(piece).startswith("▁"))

    def decode_lines(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids, without special pieces."""
        return [self.sp_model.decode([i for i in line if i > 2]) for line in ids]


def read_vocabulary(file: Path) -> TranslatorTokenizer:
    """Read a vocabulary that SentencePiece wrote to a file.

    Raises:
        BadData: SentencePiece did not write the file, or its special pieces are not ours.
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
    """Learn a vocabulary by a unigram language model (Kudo 2018), and write it to a file.

    Args:
        lines: Sentences of both languages. Of more than two million, a fixed random sample of two million is used.
        size: The number of pieces, including the four special ones.
        file: The file to write, in SentencePiece's own format.
        coverage: Share of characters that get a piece of their own. Use less than 1 for Chinese or Japanese.

    Raises:
        BadData: There is no text, or too little text for this size.
        BadRecipe: The size is too small.
    """
    if size < 16:
        raise BadRecipe(f"Got a vocabulary of {size} pieces. Give 16 or more; 8000 is usual for small data.")
    buffer = io.BytesIO()
    if len(lines) > MOST:  # SentencePiece would draw a different sample each time
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
