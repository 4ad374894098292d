"""The data settings of each task, as plain values: the table `data` of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from headcount.errors import BadRecipe
from headcount.settings.schema import Count, Seed, Whole, check_settings
from headcount.settings.training import TrainingSettings


@dataclass(frozen=True)
class TaskData:
    """The data settings that all tasks share.

    Attributes:
        train: Training data: TSV, CSV, JSON lines (also .gz), or hub:name:config:split. Translation also takes two text
            files: source,target.
        validation: Validation data, in the same formats as the training data.
        development: Number of training examples held out to score heads and to evaluate during training. Translation
            also takes separate data here. If not given: a twentieth of the training data, at most 500.
        max_length: Most tokens per example. Longer examples are cut; longer training pairs of translation are left out.
        train_limit: Number of training examples to use, drawn by the seed. If not given: all.
        validation_limit: Number of validation examples to use, from the first. If not given: all.
        seed: Seed of the draw of examples, and of new weights.
    """

    train: str
    validation: str
    development: Whole | str | None = None
    max_length: Annotated[int, Field(ge=4)] = 128
    train_limit: Count | None = None
    validation_limit: Count | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class ClassificationData(TaskData):
    """The data settings of classification: labelled sentences or sentence pairs.

    Attributes:
        text: Text column, or two columns for pairs: premise,hypothesis. If not given: guessed from the column names.
        label: Label column. If not given: guessed from the column names.
        labels: The data's labels in the order of the model's classes: a,b,c. If not given: the model's order if both
            have the same names, otherwise the data's order.
        skip_unlabelled: Leave out rows without a label.
    """

    training: ClassVar[TrainingSettings] = TrainingSettings()
    """Default training settings of a classifier."""
    development: Whole | None = None
    text: tuple[str, ...] | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    skip_unlabelled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None and (len(self.text) not in (1, 2) or len(set(self.text)) != len(self.text)):
            raise BadRecipe(f"Got text columns {', '.join(self.text)}. Name one, or two different ones for pairs.")
        if self.text is not None and self.label in self.text:
            raise BadRecipe(f"Column '{self.label}' cannot be both text and label. Name another.")
        if self.labels is not None and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise BadRecipe(f"Got labels {', '.join(self.labels)}. Name two or more different ones.")


@dataclass(frozen=True)
class TranslationData(TaskData):
    """The data settings of translation: sentences and their translations.

    Attributes:
        columns: Two columns of a table: source,target. If not given: those named after the languages, or the only two.
        languages: Source and target language, if the data name them: de,en.
        codes: Language codes of a multilingual tokenizer: deu_Latn,eng_Latn. If not given: the languages.
        vocabulary: Vocabulary of a new model: its size, a SentencePiece file, or a model to take it from. If not given:
            8000. A trained model keeps its vocabulary.
        coverage: Share of the characters that have a piece of their own in a new vocabulary.
        beam: Beam size of the search on validation data. Evaluations during training use greedy search.
        bleu_tokenize: Tokenizer of sacreBLEU: 13a, zh, ja-mecab, ko-mecab, char and so on.
    """

    training: ClassVar[TrainingSettings] = TrainingSettings(
        batch_tokens=4096, lr=5e-4, schedule="inverse_sqrt", warmup=4000, adam_beta2=0.98
    )
    """Default training settings of a translation model (Li et al. 2021 for IWSLT)."""
    columns: tuple[str, str] | None = None
    languages: tuple[str, str] | None = None
    codes: tuple[str, str] | None = None
    vocabulary: int | str | None = None
    coverage: Annotated[float, Field(gt=0, le=1)] = 1.0
    beam: Count = 5
    bleu_tokenize: str = "13a"


DATA: dict[str, Any] = {"classification": ClassificationData, "translation": TranslationData}
"""Task name -> class of its data settings."""
