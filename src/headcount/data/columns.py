"""Choose the text and label columns of a table: those the user gives, or unambiguous guesses."""

from collections.abc import Sequence
from typing import NamedTuple

from headcount.errors import BadData

PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("text_a", "text_b"),
)
SINGLES = ("sentence", "text", "content", "review")
LABELS = ("label", "labels", "gold_label", "class", "target", "category")


class Columns(NamedTuple):
    """The columns of a classification table: one text column, or two for pairs; and the label column."""

    text: tuple[str, ...]
    label: str


def choose_columns(source: str, present: Sequence[str], text: tuple[str, ...] | None, label: str | None) -> Columns:
    """Return the given columns, or guess them from their names. A guess ignores case.

    Raises:
        BadData: A given column does not exist, or the names allow no guess or several guesses.
    """
    for name in [*(text or ()), *([label] if label is not None else [])]:
        if name not in present:
            raise BadData(f"{source} has no column '{name}'. Its columns: {', '.join(present)}.")
    return Columns(
        text if text is not None else _guess_text(source, present),
        label if label is not None else _guess_label(source, present),
    )


def _guess_text(source: str, present: Sequence[str]) -> tuple[str, ...]:
    lower = [name.lower() for name in present]
    pairs = [pair for pair in PAIRS if set(pair) <= set(lower)]
    covered = {name for pair in pairs for name in pair}
    found = [*pairs, *((name,) for name in SINGLES if name in lower and name not in covered)]
    written = [name for name in present if name.lower() in {part for names in found for part in names}]
    if len(found) != 1 or len(written) != len(found[0]):
        ways = f"these may all be: {', '.join(written)}" if found else "none has a name known for text"
        raise BadData(
            f"Cannot tell which columns of {source} are the text: {ways}. Its columns: {', '.join(present)}. "
            "Name one column, or two for pairs: --text sentence, or --text premise,hypothesis."
        )
    return tuple(present[lower.index(name)] for name in found[0])


def _guess_label(source: str, present: Sequence[str]) -> str:
    found = [name for name in present if name.lower() in LABELS]
    if len(found) != 1:
        ways = f"these may all be: {', '.join(found)}" if found else "none has a name known for labels"
        raise BadData(
            f"Cannot tell which column of {source} is the label: {ways}. Its columns: {', '.join(present)}. "
            "Name it: --label gold."
        )
    return found[0]
