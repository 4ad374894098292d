"""The task of translating sentences: data, model and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from datasets import Dataset
from sacrebleu.metrics import BLEU, CHRF
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from headcount.data.parallel import Pairs, read_pairs
from headcount.errors import BadData, BadRecipe
from headcount.nmt import Translator, TranslatorTokenizer
from headcount.running.measure import longest_input
from headcount.settings.data import TranslationData
from headcount.tasks.protocol import Collator, LabelKind, Prepared
from headcount.tasks.translation_batches import TranslationCollator, shorten_pairs
from headcount.tasks.translation_measures import mean_loss, translations
from headcount.tasks.translation_models import NEW, load_any, load_tokenizer, new_config, new_model, speaking
from headcount.tasks.translation_vocabulary import new_vocabulary, require_vocabulary


@dataclass(frozen=True)
class Translation(TranslationData):
    """The task of translating sentences. `TranslationData` documents the fields, `read_pairs` the data."""

    followed: ClassVar[int] = 500
    """The number of development pairs for each evaluation of the validation curve."""
    figures: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "loss")
    """The measures on development data. The first one decides which weights are better."""
    label_kind: ClassVar[LabelKind] = "tokens"
    signed: ClassVar[Mapping[str, str]] = {
        "development": "dev", "max_length": "len", "beam": "beam", "codes": "pair", "languages": "pair",
        "vocabulary": "vocab", "coverage": "coverage", "bleu_tokenize": "words",
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bleu_tokenize not in BLEU.TOKENIZERS:
            raise BadRecipe(f"Unknown bleu_tokenize '{self.bleu_tokenize}'. Valid: {', '.join(BLEU.TOKENIZERS)}.")
        try:
            BLEU(tokenize=self.bleu_tokenize)
        except (OSError, RuntimeError) as error:  # some tokenizers need another package, or a file from the network
            raise BadRecipe(f"sacreBLEU cannot split words by '{self.bleu_tokenize}': {error}.") from error

    def prepare(self, source: str, directory: Path | None = None, learns: bool = True) -> Prepared:
        """Load or make the model, and tokenise the pairs.

        Args:
            source: A directory or a name on the Hub; or, for a new model, `new:PRESET` or `new:PRESET,FIELD=VALUE`.
            directory: The directory for a new vocabulary. The next call finds it there.
            learns: Whether the run trains. If not, only the validation pairs are read.

        Raises:
            BadData: See `read_pairs`; or there are too few pairs.
            BadRecipe: There is no such model, it does not translate, or its vocabulary is not the one given.
        """
        # Long, because each step needs the result of the step before.
        if source.startswith(NEW):
            new_config(source)  # an impossible shape is refused before anything is made for it
        if learns:
            train, development, validation, empty = self.load()
        else:
            validation, empty = self._validation(), 0
            train = development = validation.take([])
        model, tokenizer = self._model(source, train, directory)
        longest = None if isinstance(model, Translator) else longest_input(model)
        learned, followed, measured = (self.tokenize(tokenizer, pairs) for pairs in (train, development, validation))
        followed, cut = shorten_pairs(followed, longest, set(tokenizer.all_special_ids))
        limit = self.max_length if longest is None else min(self.max_length, longest)
        fits = np.asarray(learned["length"]) <= limit
        if learns and not fits.any():
            raise BadData(
                f"Every pair of {self.train} is longer than {limit} pieces. Give a larger max_length, or shorter pairs."
            )
        learned = learned.select(np.flatnonzero(fits).tolist(), keep_in_memory=True)
        dropped = {"empty": empty, "too_long": int((~fits).sum())}
        shortened = f" ({cut} cut to the {longest} pieces that the model reads)" if cut else ""
        summary = (
            f"{len(learned)} pairs to learn from ({dropped['empty']} more had an empty side, {dropped['too_long']} "
            f"were longer than {limit} pieces), {len(followed)} to follow it{shortened}, {len(measured)} to measure "
            f"on; {len(tokenizer)} pieces."
        )
        notes = {"dropped": dropped, "metrics": self.signatures()}
        return Prepared(
            model, tokenizer, not source.startswith(NEW), learned, followed, measured,
            TranslationCollator(tokenizer), summary, notes,
        )  # fmt: skip

    def _model(
        self, source: str, train: Pairs, directory: Path | None
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Make a new model of a shape, or load an existing one; return it and its tokenizer."""
        if source.startswith(NEW):
            tokenizer = new_vocabulary(self.vocabulary, self.coverage, train, directory)
            return new_model(source, tokenizer, self.seed), tokenizer
        model = load_any(source)
        tokenizer = speaking(load_tokenizer(source), self.codes or self.languages, source)
        require_vocabulary(self.vocabulary, source, tokenizer)
        return model, tokenizer

    def load(self) -> tuple[Pairs, Pairs, Pairs, int]:
        """Return training, development and validation pairs, and the number of training pairs with an empty side.

        Raises:
            BadData: See `read_pairs`; or no training pair is left.
        """
        validation = self._validation()
        train, empty = self._read(self.train).without_empty()
        held_out = self.development
        if held_out is None:
            held_out = min(500, len(train) // 20)
        count = held_out if isinstance(held_out, int) else 0
        if not len(train):
            raise BadData(f"{self.train} has no pair with text on both sides ({empty} have none on one, or on either).")
        if count >= len(train):
            raise BadData(
                f"Cannot hold out {count} of the {len(train)} pairs of {self.train} that have text on both sides."
            )
        order = np.random.default_rng(self.seed).permutation(len(train)).tolist()
        learned = min(len(train) - count, self.train_limit or len(train))
        if isinstance(held_out, str):
            development, _ = self._read(held_out).without_empty()
        else:
            development = train.take(sorted(order[learned : learned + count]))
        return train.take(sorted(order[:learned])), development, validation, empty

    def _validation(self) -> Pairs:
        found = self._read(self.validation)
        return found if self.validation_limit is None else found.take(range(min(self.validation_limit, len(found))))

    def tokenize(self, tokenizer: PreTrainedTokenizerBase, pairs: Pairs) -> Dataset:
        """Tokenise pairs into `input_ids`, `labels` and `length` (of the longer side), and keep their text."""
        if isinstance(tokenizer, TranslatorTokenizer):
            sources, targets = tokenizer.encode_lines(pairs.sources), tokenizer.encode_lines(pairs.targets)
        else:
            encoded = tokenizer(pairs.sources, text_target=pairs.targets) if len(pairs) else {}
            sources, targets = encoded.get("input_ids", []), encoded.get("labels", [])
        return Dataset.from_dict(
            {
                "input_ids": sources,
                "labels": targets,
                "length": [max(len(a), len(b)) for a, b in zip(sources, targets, strict=True)],
                "source": pairs.sources,
                "target": pairs.targets,
            }
        )

    def evaluate(
        self, model: nn.Module, dataset: Dataset, collator: Collator, device: torch.device | str = "cpu"
    ) -> dict[str, float]:
        """Return sacreBLEU's BLEU and chrF of the translations, in [0, 100]; see `signatures`."""
        return self._scores(model.to(device), dataset, collator, self.beam)

    def follow(self, model: nn.Module, dataset: Dataset, collator: Collator) -> dict[str, float]:
        """Return BLEU and chrF of greedy search, and the mean loss of a target piece."""
        return {**self._scores(model, dataset, collator, 1), "loss": mean_loss(model, dataset, collator)}

    def signatures(self) -> dict[str, str]:
        """Return sacreBLEU's signatures of the metrics."""
        found = {}
        for name, metric in self._metrics().items():
            metric.corpus_score(["a b c d"], [["a b c d"]])
            found[name] = str(metric.get_signature())
        return found

    def _metrics(self) -> dict[str, BLEU | CHRF]:
        return {"bleu": BLEU(tokenize=self.bleu_tokenize), "chrf": CHRF()}

    def _scores(self, model: nn.Module, dataset: Dataset, collator: Collator, beam: int) -> dict[str, float]:
        found = list(translations(model, collator.tokenizer, dataset["source"], beam))
        references = [list(dataset["target"])]
        return {name: float(metric.corpus_score(found, references).score) for name, metric in self._metrics().items()}

    def _read(self, source: str) -> Pairs:
        return read_pairs(source, self.languages, self.columns)
