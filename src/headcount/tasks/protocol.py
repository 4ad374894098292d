"""The protocol of tasks. A task gives a run its model, examples, batches and metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from headcount.settings.training import TrainingSettings

Row: TypeAlias = Mapping[str, object]
"""One tokenised example."""
LabelKind: TypeAlias = Literal["class", "number", "tokens"]
"""What a label is: the number of a class, a number to predict, or the tokens of a text to write."""


@runtime_checkable
class Collator(Protocol):
    """The protocol of collators, which pad tokenised examples into a batch for the model."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer of the model."""
        ...

    def __call__(self, examples: Sequence[Row]) -> dict[str, Tensor]:
        """Return the batch as keyword arguments of the model, with the labels as `labels`."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What a task gives to a run.

    Attributes:
        model: The model.
        tokenizer: The tokenizer that is saved with the model.
        trained: Whether the model has been trained on the task.
        train: Tokenised examples to learn from. Like the other two, it has the columns `length` and `labels`.
        development: Examples held out from training, for head scores and the validation curve.
        validation: Examples of the final evaluation.
        collator: Makes batches of examples.
        summary: What was read, in one line.
        notes: What the record keeps about the data.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trained: bool
    train: Dataset
    development: Dataset
    validation: Dataset
    collator: Collator
    summary: str
    notes: Mapping[str, object] = field(default_factory=dict)

    def calibration(self, examples: int, batch_size: int = 8) -> Iterator[dict[str, Tensor]]:
        """Yield batches of the first training examples without labels, for methods that need inputs only.

        The decoder of an encoder-decoder needs a text too. It reads the target text, shifted by one.
        """
        for start in range(0, min(examples, len(self.train)), batch_size):
            rows = range(start, min(start + batch_size, examples, len(self.train)))
            batch = self.collator([self.train[row] for row in rows])
            labels = batch.pop("labels")
            if self.model.config.is_encoder_decoder and labels.ndim > 1:
                batch["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels)
            yield batch


@runtime_checkable
class Task(Protocol):
    """A task: a frozen dataclass whose fields are the keys that a recipe may give under `data`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    followed: ClassVar[int]
    """The number of development examples for each evaluation of the validation curve."""
    figures: ClassVar[tuple[str, ...]]
    """The names of the figures that `follow` returns. The first decides which weights are better; more is better."""
    training: ClassVar[TrainingSettings]
    """The default training settings of the task."""
    label_kind: ClassVar[LabelKind]
    """What the labels are."""
    signed: ClassVar[Mapping[str, str]]
    """The fields that a run's signature shows, with their short names. If fields share a name, the first given one
    counts. `train`, `validation`, `validation_limit` and `seed` are always shown, so they are not listed here."""

    @property
    def train(self) -> str:
        """Return the source of the training examples."""
        ...

    @property
    def validation(self) -> str:
        """Return the source of the validation examples."""
        ...

    @property
    def seed(self) -> int:
        """Return the seed for everything random in data and model."""
        ...

    def prepare(self, source: str, directory: Path | None = None, learns: bool = True) -> Prepared:
        """Load the model and the examples.

        Args:
            source: A directory, a name on the Hub, or a new model that the task can make.
            directory: A directory for files that the model needs, such as a new vocabulary.
            learns: Whether the run trains. If not, only the validation examples are needed.

        Raises:
            PruningError: The data or the model cannot be used. The message says why.
        """
        ...

    def evaluate(
        self, model: nn.Module, dataset: Dataset, collator: Collator, *, device: torch.device | str = "cpu"
    ) -> dict[str, float]:
        """Return the metrics of a model on examples. The model is moved to the device."""
        ...

    def follow(self, model: nn.Module, dataset: Dataset, collator: Collator) -> dict[str, float]:
        """Return the figures of the validation curve, by the names in `figures`."""
        ...

    def signatures(self) -> dict[str, str]:
        """Return how each metric is computed, if there are several ways."""
        ...


if TYPE_CHECKING:
    TaskClass: TypeAlias = type[Task]
else:
    TaskClass = type  # Python refuses `issubclass` for protocols with values, so this cannot be checked at run time
