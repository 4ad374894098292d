"""What a task hands to a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset


@dataclass(frozen=True)
class Prepared:
    """Model and data of a run.

    Attributes:
        model: The model.
        tokenizer: What goes with it into its directory.
        trained: Whether the model has been trained on the task.
        train: Tokenised examples to learn from, with a `length` column; like the others.
        development: Held out from them, or of their own: heads are scored and trainings followed on them.
        validation: To measure on.
        collator: Makes batches of them.
        summary: What was read, in a line.
        notes: What the record should hold of it.
    """

    model: Any
    tokenizer: Any
    trained: bool
    train: Dataset
    development: Dataset
    validation: Dataset
    collator: Any
    summary: str
    notes: Mapping[str, Any] = field(default_factory=dict)
