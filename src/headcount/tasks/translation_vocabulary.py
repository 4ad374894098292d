"""Load, learn and compare vocabularies of translation models."""

from pathlib import Path

from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from headcount.data.parallel import Pairs
from headcount.errors import BadRecipe
from headcount.nmt import TranslatorTokenizer, learn_vocabulary, read_vocabulary
from headcount.tasks.translation_models import load_tokenizer

PIECES = 8000
"""The default size of a new vocabulary."""


def given_vocabulary(name: str) -> TranslatorTokenizer:
    """Load the vocabulary of a SentencePiece file, or of a translation model of our own.

    Raises:
        BadData: The file is not a vocabulary.
        BadRecipe: There is nothing of that name, or it belongs to another kind of model.
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
    """Return the vocabulary of a new model: the named one, or one learned from the training pairs.

    Args:
        wanted: The number of pieces to learn, or the name of a vocabulary. None: `PIECES`.
        coverage: The share of characters that get a piece of their own.
        train: The training pairs.
        directory: The directory for a learned vocabulary. The next call finds it there.

    Raises:
        BadRecipe: See `given_vocabulary`; or there is no directory for a learned vocabulary.
    """
    if isinstance(wanted, str):
        return given_vocabulary(wanted)
    if directory is None:
        raise BadRecipe("A new model needs a directory to keep its vocabulary in, or a vocabulary that is there.")
    file = directory / "vocabulary.model"
    with FileLock(directory / "vocabulary.lock"):  # among processes that train together, only one learns it
        if file.is_file():
            return read_vocabulary(file)
        size = PIECES if wanted is None else wanted
        return learn_vocabulary([*train.sources, *train.targets], size, file, coverage)


def require_vocabulary(wanted: int | str | None, source: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the vocabulary of a trained model is the wanted one, if one is given.

    Raises:
        BadRecipe: The model has another vocabulary.
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
