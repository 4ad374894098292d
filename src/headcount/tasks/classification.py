"""The task of classifying sentences or pairs of sentences: data, model and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint
from jaxtyping import Float, Int
from torch import nn
from transformers import AutoTokenizer, DataCollatorWithPadding, PreTrainedTokenizerBase

from headcount.anatomy.example import evaluating
from headcount.data.labelled import Table, read_table
from headcount.data.labels import label_numbers, sort_labels
from headcount.errors import BadData, BadRecipe
from headcount.running.quiet import no_progress_bars
from headcount.settings.data import ClassificationData
from headcount.tasks.classifier import Classifier, load_classifier
from headcount.tasks.protocol import Collator, LabelKind, Prepared, Row


@dataclass(frozen=True)
class Examples:
    """The labelled examples of a classification task.

    Attributes:
        train: Training examples.
        development: Examples held out from the training source, for head scores and the validation curve.
        validation: Examples of the final evaluation.
        labels: All labels of the training source. Numerals are sorted by value, names by alphabet.
            `Classifier.labels` has them in the order of the model's classes.
        stated: The labels in the order that the training source states, if it states one.
    """

    train: Table
    development: Table
    validation: Table
    labels: tuple[str, ...]
    stated: tuple[str, ...] | None

    @property
    def text(self) -> tuple[str, ...]:
        """Return the text columns: one, or two for pairs."""
        return self.train.columns.text


@dataclass(frozen=True)
class PaddingCollator:
    """A collator that pads tokenised examples to the longest. A batch has only the columns that the model reads."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, examples: Sequence[Row]) -> dict[str, torch.Tensor]:
        """Return the batch, as the keyword arguments of the model."""
        inputs = [{name: value for name, value in row.items() if name != "length"} for row in examples]
        return dict(DataCollatorWithPadding(self.tokenizer)(inputs))


@dataclass(frozen=True)
class Classification(ClassificationData):
    """The task of predicting the label of a sentence or a pair. `ClassificationData` documents the fields."""

    followed: ClassVar[int] = 200
    """The number of development examples for each evaluation of the validation curve."""
    figures: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    """The measures on development data. The first one decides which weights are better."""
    label_kind: ClassVar[LabelKind] = "class"
    signed: ClassVar[Mapping[str, str]] = {"development": "dev", "max_length": "len"}

    def load(self) -> Examples:
        """Read and check the examples. Limits apply to examples, but `labels` are those of the whole source.

        Raises:
            BadData: A source cannot be read, the training source has one label only, or validation has a
                label that training does not have. The message has file and line.
            BadRecipe: Too many examples are to be held out.
        """
        train = read_table(self.train, self.text, self.label, self.skip_unlabelled)
        columns = train.columns
        validation = read_table(self.validation, columns.text, columns.label, self.skip_unlabelled)
        labels = sort_labels(train.labels)
        if len(labels) < 2 and self.train != self.validation:  # one label is enough for an evaluation
            raise BadData(f"{self.train} has one label only, '{labels[0]}': there is nothing to learn.")
        allowed = {*labels, *(self.labels or ())}
        for row, label in enumerate(validation.labels):
            if label not in allowed:
                raise BadData(
                    f"{validation.where(row)}: label '{label}' does not occur in the training data "
                    f"{self.train}, which has: {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}."
                )
        held_out = min(500, len(train) // 20) if self.development is None else self.development
        if held_out >= len(train):
            raise BadRecipe(f"Cannot hold out {held_out} of the {len(train)} examples of {self.train}. Hold out fewer.")
        order = np.random.default_rng(self.seed).permutation(len(train)).tolist()
        learned = min(len(train) - held_out, self.train_limit or len(train))
        development = train.take(sorted(order[learned : learned + held_out]))
        train = train.take(sorted(order[:learned]))
        if self.validation_limit is not None:
            validation = validation.take(range(min(self.validation_limit, len(validation))))
        return Examples(train, development, validation, labels, train.stated)

    def prepare(self, source: str, directory: Path | None = None, learns: bool = True) -> Prepared:
        """Load the model with a classification head for the labels, and tokenise the examples.

        Args:
            source: The directory of the model, or its name on the Hub.
            directory: It is not used here.
            learns: Whether the run trains. If not, only the validation examples are tokenised.

        Raises:
            PruningError: See `load`, `tokenizer_for` and `model_for`.
        """
        examples = self.load()
        tokenizer = self.tokenizer_for(source)
        classifier = self.model_for(source, examples)
        validation = self.tokenize(tokenizer, examples.validation, classifier.labels)
        train = development = validation.select([])
        if learns:
            train, development = (
                self.tokenize(tokenizer, table, classifier.labels) for table in (examples.train, examples.development)
            )
        summary = (
            f"{len(train)} examples to learn from, {len(development)} held out to follow it, {len(validation)} to "
            f"measure on; labels {', '.join(classifier.labels)}."
        )
        return Prepared(
            classifier.model, tokenizer, classifier.trained, train, development, validation,
            self.collator(tokenizer), summary,
        )  # fmt: skip

    def tokenizer_for(self, source: str) -> PreTrainedTokenizerBase:
        """Load the tokenizer of the model. Without a padding token, it pads with its end-of-sentence token.

        Raises:
            BadRecipe: No tokenizer can be loaded from there.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise BadRecipe(f"Cannot load a tokenizer from '{source}': {error}") from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def model_for(self, source: str, examples: Examples) -> Classifier:
        """Load the model with a classification head for the labels. A missing head is drawn with `seed`.

        Raises:
            PruningError: See `load_classifier`, in particular BadData for labels on which model and data disagree.
        """
        return load_classifier(source, examples.labels, self.labels, examples.stated, self.seed)

    def tokenize(self, tokenizer: PreTrainedTokenizerBase, table: Table, labels: tuple[str, ...]) -> Dataset:
        """Tokenise a table into token ids, `labels` as numbers, and `length` in tokens, without padding.

        Args:
            tokenizer: The tokenizer of the model.
            table: The examples.
            labels: The labels in the order of the model's classes, `Classifier.labels`.
        """
        numbers = label_numbers(sort_labels(table.labels), labels)
        limit = min(self.max_length, tokenizer.model_max_length)

        def encode(rows: Mapping[str, list[str]]) -> dict[str, list[object]]:
            tokens = tokenizer(*(rows[name] for name in table.columns.text), truncation=True, max_length=limit)
            encoded = {name: tokens[name] for name in tokenizer.model_input_names if name in tokens}
            encoded["labels"] = [numbers[label] for label in rows[table.columns.label]]
            encoded["length"] = [len(ids) for ids in tokens["input_ids"]]
            return encoded

        with no_progress_bars():
            return table.rows.map(
                encode,
                batched=True,
                remove_columns=table.rows.column_names,
                keep_in_memory=True,
                load_from_cache_file=False,
                # A real fingerprint is not needed, and it would pickle and hash the tokenizer.
                new_fingerprint=generate_random_fingerprint(),
            )

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> PaddingCollator:
        """Return the collator, which makes batches of tokenised examples."""
        return PaddingCollator(tokenizer)

    def signatures(self) -> dict[str, str]:
        """Return nothing, because accuracy and F1 can be computed in one way only."""
        return {}

    def follow(self, model: nn.Module, dataset: Dataset, collator: Collator) -> dict[str, float]:
        """Return the figures of the validation curve: those of `evaluate`, on the device of the model."""
        return self.evaluate(model, dataset, collator, device=next(model.parameters()).device)

    @staticmethod
    def metrics(logits: Float[np.ndarray, "batch label"], labels: Int[np.ndarray, " batch"]) -> dict[str, float]:
        """Return accuracy and macro F1, the mean F1 over labels. Both are in [0, 1].

        A label that neither occurs nor is predicted has no F1. The mean leaves it out.
        """
        from sklearn.metrics import accuracy_score, f1_score  # imported here because it is slow

        predicted = logits.argmax(axis=-1)
        return {
            "accuracy": float(accuracy_score(labels, predicted)),
            "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        }

    def evaluate(
        self,
        model: nn.Module,
        dataset: Dataset,
        collator: Collator,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
    ) -> dict[str, float]:
        """Return the metrics of a model on tokenised examples. Batches are made by length, to save padding.

        The model is moved to the device. Its modules keep their training or evaluation mode.
        """
        lengths = list(dataset["length"])
        order = sorted(range(len(dataset)), key=lambda row: -lengths[row])
        with evaluating([model.to(device)]), torch.inference_mode():
            logits = [
                model(**_move(collator([dataset[row] for row in order[start : start + batch_size]]), device)).logits
                for start in range(0, len(order), batch_size)
            ]
        labels = np.asarray(dataset["labels"])[order]
        return self.metrics(torch.cat(logits).float().cpu().numpy(), labels)


def _move(batch: Mapping[str, torch.Tensor], device: torch.device | str) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
