"""Vocabularies of translation models: given by name, learned for a new model, or compared with the wanted one."""

from pathlib import Path

from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from headcount.data.parallel import Pairs
from headcount.errors import BadRecipe
from headcount.nmt import TranslatorTokenizer, learn_vocabulary, read_vocabulary
from headcount.tasks.translation_models import load_tokenizer

PIECES = 8000
"""The size of a new vocabulary by default."""


def given_vocabulary(name: str) -> TranslatorTokenizer:
    """The vocabulary in a SentencePiece file, or of a translation model of headcount's.

    Raises:
        BadData: The file is no vocabulary.
        BadRecipe: There is nothing of that name, or it is another kind of model's.
    """
    if Path(name).is_file():
        return read_vocabulary(Path(name))
    tokenizer = load_tokenizer(name)
    if not isinstance(tokenizer, TranslatorTokenizer):
        raise BadRecipe(
            f"'{name}' has a {type(tokenizer).__name__}. Give a translation model of headcount's, SentencePiece's "
            "file, or a number of pieces."
        )
    return tokenizer


def new_vocabulary(
    wanted: int | str | None, coverage: float, train: Pairs, directory: Path | None
) -> TranslatorTokenizer:
    """The vocabulary of a new model: the one that is named, or one learned from the training pairs.

    Args:
        wanted: How many pieces to learn, or what names a vocabulary. None: `PIECES`.
        coverage: The share of characters that get a piece of their own.
        train: The training pairs.
        directory: Where a learned vocabulary is kept. The next call finds it there.

    Raises:
        BadRecipe: See `given_vocabulary`; or there is no directory to keep a learned vocabulary in.
    """
    if isinstance(wanted, str):
        return given_vocabulary(wanted)
    if directory is None:
        raise BadRecipe("A new model needs a directory to keep its vocabulary in, or a vocabulary that is there.")
    file = directory / "vocabulary.model"
    with FileLock(directory / "vocabulary.lock"):  # of processes that train together, one learns it
        if file.is_file():
            return read_vocabulary(file)
        size = PIECES if wanted is None else wanted
        return learn_vocabulary([*train.sources, *train.targets], size, file, coverage)


def require_vocabulary(wanted: int | str | None, source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that the vocabulary of a trained model is the wanted one, where one is named.

    Raises:
        BadRecipe: It is another.
    """
    if isinstance(wanted, str):
        wanted, same = f"that of '{wanted}'", given_vocabulary(wanted).digest == getattr(tokenizer, "digest", None)
    else:
        same = wanted in (None, len(tokenizer))
    if not same:
        raise BadRecipe(
            f"'{source}' is trained, with a vocabulary of {len(tokenizer)} pieces of its own, but 'vocabulary' is "
            f"{wanted}. Leave that out, or train a new model."
        )
