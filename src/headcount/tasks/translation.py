"""Translation: data and metric."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from sacrebleu.metrics import BLEU, CHRF
from torch import nn

from headcount.anatomy.example import evaluating
from headcount.data.order import token_batches
from headcount.data.parallel import Pairs, read_pairs
from headcount.errors import BadData, BadRecipe
from headcount.nmt import LineTranslator, Search, Translator, TranslatorTokenizer, learn_vocabulary, read_vocabulary
from headcount.running.measure import longest_input
from headcount.settings.data import TranslationData
from headcount.tasks.prepared import Prepared
from headcount.tasks.translation_models import NEW, load_any, load_tokenizer, new_config, new_model, speaking, start_of

PIECES = 8000
"""Of a new vocabulary, if nothing else is said."""


@dataclass(frozen=True)
class TranslationCollator:
    """Makes a batch of tokenised pairs, padded to the longest; only what the model reads is in it."""

    tokenizer: Any

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch, as the model's keyword arguments; labels are padded with -100."""
        ids = _padded([row["input_ids"] for row in examples], self.tokenizer.pad_token_id)
        lengths = torch.tensor([[len(row["input_ids"])] for row in examples])
        mask = (torch.arange(ids.shape[1]) < lengths).long()
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": _padded([row["labels"] for row in examples], -100),
        }


@dataclass(frozen=True)
class Translation(TranslationData):
    """The task of translating sentences. Its fields: `TranslationData`; see `read_pairs` for what data may be."""

    followed: ClassVar[int] = 500
    """Development pairs that a training is followed by, at every look."""
    figures: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "loss")
    """What it measures on development data, the first of which says what is better."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bleu_tokenize not in BLEU.TOKENIZERS:
            raise BadRecipe(f"Unknown bleu_tokenize '{self.bleu_tokenize}'. Valid: {', '.join(BLEU.TOKENIZERS)}.")
        try:
            BLEU(tokenize=self.bleu_tokenize)
        except (OSError, RuntimeError) as error:  # some need another package, or a file from the network
            raise BadRecipe(f"sacreBLEU cannot split words by '{self.bleu_tokenize}': {error}.") from error

    def prepare(self, source: str, directory: Path | None = None, learns: bool = True) -> Prepared:
        """Model and data, as the model reads them.

        Args:
            source: A model's directory or its name on the Hub; or a new one, `new:PRESET` or `new:PRESET,FIELD=VALUE`.
            directory: Where a new vocabulary is kept; the next call finds it there.
            learns: Whether anything is to be learned. If not, there are no other pairs than those to measure on.

        Raises:
            BadData: See `read_pairs`; or there is too little of it.
            BadRecipe: There is no such model, it does not translate, or its vocabulary is not the one given.
        """
        trained = not source.startswith(NEW)
        if not trained:
            new_config(source)  # a shape that cannot be is told before anything is made for it
        if learns:
            train, development, validation, empty = self.load()
        else:
            validation, empty = self._validation(), 0
            train = development = validation.take([])
        if trained:
            model = load_any(source)
            tokenizer = speaking(load_tokenizer(source), self.codes or self.languages, source)
            self._require_vocabulary(source, tokenizer)
        else:
            tokenizer = self._new_tokenizer(train, directory)
            model = new_model(source, tokenizer, self.seed)
        longest = None if isinstance(model, Translator) else longest_input(model)
        learned, followed, measured = (self.tokenize(tokenizer, pairs) for pairs in (train, development, validation))
        followed, cut = _cut(followed, longest, tokenizer)
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
        collator = TranslationCollator(tokenizer)
        notes = {"dropped": dropped, "metrics": self.signatures()}
        return Prepared(model, tokenizer, trained, learned, followed, measured, collator, summary, notes)

    def load(self) -> tuple[Pairs, Pairs, Pairs, int]:
        """Pairs to learn from, to follow it by and to measure on; how many of the first had an empty side.

        Raises:
            BadData: See `read_pairs`; or nothing is left to learn from.
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

    def tokenize(self, tokenizer: Any, pairs: Pairs) -> Dataset:
        """The pairs as the model reads them: `input_ids`, `labels`, `length` (of the longer side), and their text."""
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
        self, model: nn.Module, dataset: Dataset, collator: TranslationCollator, device: torch.device | str = "cpu"
    ) -> dict[str, float]:
        """BLEU and chrF of the translations, in [0, 100], by sacreBLEU; see `signatures`."""
        return self._scores(model.to(device), dataset, collator, self.beam)

    def follow(self, model: nn.Module, dataset: Dataset, collator: TranslationCollator) -> dict[str, float]:
        """BLEU and chrF by greedy search, and the mean loss of a target piece."""
        return {**self._scores(model, dataset, collator, 1), "loss": _loss(model, dataset, collator)}

    def signatures(self) -> dict[str, str]:
        """SacreBLEU's signatures of the metrics."""
        found = {}
        for name, metric in self._metrics().items():
            metric.corpus_score(["a b c d"], [["a b c d"]])
            found[name] = str(metric.get_signature())
        return found

    def _metrics(self) -> dict[str, Any]:
        return {"bleu": BLEU(tokenize=self.bleu_tokenize), "chrf": CHRF()}

    def _scores(self, model: nn.Module, dataset: Dataset, collator: TranslationCollator, beam: int) -> dict[str, float]:
        found = list(translations(model, collator.tokenizer, dataset["source"], beam))
        references = [list(dataset["target"])]
        return {name: float(metric.corpus_score(found, references).score) for name, metric in self._metrics().items()}

    def _read(self, source: str) -> Pairs:
        return read_pairs(source, self.languages, self.columns)

    def _new_tokenizer(self, train: Pairs, directory: Path | None) -> Any:
        if isinstance(self.vocabulary, str):
            return given_vocabulary(self.vocabulary)
        if directory is None:
            raise BadRecipe("A new model needs a directory to keep its vocabulary in, or a vocabulary that is there.")
        file = directory / "vocabulary.model"
        with FileLock(directory / "vocabulary.lock"):  # of processes that train together, one learns it
            if file.is_file():
                return read_vocabulary(file)
            size = PIECES if self.vocabulary is None else self.vocabulary
            return learn_vocabulary([*train.sources, *train.targets], size, file, self.coverage)

    def _require_vocabulary(self, source: str, tokenizer: Any) -> None:
        wanted = self.vocabulary
        if isinstance(wanted, str):
            wanted, same = f"that of '{wanted}'", given_vocabulary(wanted).digest == getattr(tokenizer, "digest", None)
        else:
            same = wanted in (None, len(tokenizer))
        if not same:
            raise BadRecipe(
                f"'{source}' is trained, with a vocabulary of {len(tokenizer)} pieces of its own, but 'vocabulary' is "
                f"{wanted}. Leave that out, or train a new model."
            )


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


@torch.inference_mode()
def translations(model: Any, tokenizer: Any, lines: Sequence[str], beam: int) -> Iterator[str]:
    """The translation of each line, in order: by our own search, or by `generate` of another library's model."""
    with evaluating([model]):
        if isinstance(model, Translator):
            found = list(LineTranslator(model, tokenizer, Search(beam=beam)).translate(lines))
        else:
            found = _generated(model, tokenizer, lines, beam)
    yield from found


def _generated(model: Any, tokenizer: Any, lines: Sequence[str], beam: int, batch_size: int = 32) -> list[str]:
    order = sorted(range(len(lines)), key=lambda i: -len(lines[i]))
    found = [""] * len(lines)
    most, start_with = longest_input(model), start_of(tokenizer)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = tokenizer([lines[i] for i in rows], return_tensors="pt", padding=True, truncation=True, max_length=most)
        longest = 2 * batch["input_ids"].shape[1] + 10
        longest = longest if most is None else min(longest, most - 1)  # the start is a position, too
        ids = model.generate(
            **batch.to(model.device), num_beams=beam, max_new_tokens=longest, do_sample=False, **start_with
        )
        for i, text in zip(rows, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
            found[i] = text
    return found


@torch.inference_mode()
def _loss(model: Any, dataset: Dataset, collator: TranslationCollator, tokens: int = 4096) -> float:
    total, count = 0.0, 0
    with evaluating([model]):
        lengths = np.asarray(dataset["length"])
        for rows in token_batches(lengths, np.argsort(lengths, kind="stable"), tokens):
            batch = collator([dataset[row] for row in rows.tolist()])
            pieces = int((batch["labels"] != -100).sum())
            total += pieces * float(model(**{name: value.to(model.device) for name, value in batch.items()}).loss)
            count += pieces
    return total / max(1, count)


def _cut(rows: Dataset, longest: int | None, tokenizer: Any) -> tuple[Dataset, int]:
    """Rows that a model with so many positions can read, the special tokens at their ends kept; how many were cut."""
    over = [] if longest is None else np.flatnonzero(np.asarray(rows["length"]) > longest).tolist()
    if longest is None or not over:
        return rows, 0

    special = set(tokenizer.all_special_ids)

    def shorter(ids: list[int]) -> list[int]:
        text = len(ids)
        while text and ids[text - 1] in special:
            text -= 1
        return [*ids[: min(text, longest - (len(ids) - text))], *ids[text:]]

    def shorten(row: dict[str, Any]) -> dict[str, Any]:
        sides = {name: shorter(row[name]) for name in ("input_ids", "labels")}
        return {**row, **sides, "length": min(row["length"], longest)}

    return Dataset.from_list([shorten(row) for row in rows]), len(over)


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    out = torch.full((len(rows), max(map(len, rows))), value)
    for number, row in enumerate(rows):
        out[number, : len(row)] = torch.tensor(row)
    return out
