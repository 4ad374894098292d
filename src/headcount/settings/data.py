"""What data a task works on, as a recipe says it in its table `data`. Plain values: the tasks read them."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from headcount.errors import BadRecipe
from headcount.settings.schema import Count, Seed, Whole, check_settings
from headcount.settings.training import TrainingSettings


@dataclass(frozen=True)
class TaskData:
    """The data settings that the tasks have in common.

    Attributes:
        train: Training data: TSV, CSV, JSON lines (also .gz), or hub:name:config:split; to translate also two text
            files, source,target.
        validation: Data to measure on, likewise.
        development: Examples held out from the training data, to score heads and to follow the training: how many;
            to translate also data of its own. If not given: a twentieth, at most 500.
        max_length: Tokens that an example is cut to. Training pairs of translation that are longer are left out.
        train_limit: Learn from this many examples, drawn by the seed. If not given: all.
        validation_limit: Measure on the first so many examples. If not given: all.
        seed: Of what is drawn, and of new weights.
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
    """The labelled sentences, or pairs of sentences, of a classification.

    Attributes:
        text: Text column, or two for pairs: premise,hypothesis. If not given: guessed from the names.
        label: Label column. If not given: guessed.
        labels: The data's labels in the order of the model's classes: a,b,c. If not given: the model's order where
            both have the same names, or else the data's.
        skip_unlabelled: Leave out rows without a label.
    """

    training: ClassVar[TrainingSettings] = TrainingSettings()
    """How a classifier is trained if nothing else is said."""
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
    """The sentences and their translations.

    Attributes:
        columns: two columns of a table, source,target. If not given: guessed.
        languages: Source and target language, where data name them: de,en.
        codes: The same as a tokenizer of many languages names them: deu_Latn,eng_Latn. If not given: languages.
        vocabulary: Of a new model: how many pieces, SentencePiece's file, or a model that has it. If not given: 8000.
            A trained model keeps its own.
        coverage: Share of the characters that have a piece of their own, in a new vocabulary.
        beam: Hypotheses that the search keeps when the model is measured. Trainings are followed by greedy search.
        bleu_tokenize: How sacreBLEU splits into words: 13a, zh, ja-mecab, ko-mecab, char and so on.
    """

    training: ClassVar[TrainingSettings] = TrainingSettings(
        batch_tokens=4096, lr=5e-4, schedule="inverse_sqrt", warmup=4000, adam_beta2=0.98
    )
    """How a translation model is trained if nothing else is said (Li et al. 2021, as for IWSLT)."""
    columns: tuple[str, str] | None = None
    languages: tuple[str, str] | None = None
    codes: tuple[str, str] | None = None
    vocabulary: int | str | None = None
    coverage: Annotated[float, Field(gt=0, le=1)] = 1.0
    beam: Count = 5
    bleu_tokenize: str = "13a"


DATA: dict[str, Any] = {"classification": ClassificationData, "translation": TranslationData}
"""The data settings of headcount's tasks, by the task's name."""
