"""Sequence-level distillation (Kim and Rush 2016): a student learns from what a teacher makes of the source side."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from sacrebleu.metrics import BLEU

from headcount.data.parallel import Pairs, read_pairs
from headcount.directory.fingerprint import digest
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.experiments.recipe import Recipe, differences
from headcount.experiments.run import run_recipe
from headcount.nmt import Hypothesis, LineTranslator, Search, Shortlist, TranslatorTokenizer, one_line
from headcount.running.device import own_device
from headcount.settings.records import Record, short_source
from headcount.settings.schema import require_least
from headcount.settings.training import TrainingSettings, with_a_length, world_size
from headcount.settings.writing import alone, require_empty, write_atomically
from headcount.tasks.translation import Translation
from headcount.tasks.translation_models import load_tokenizer, load_translator, new_config
from headcount.tasks.translation_vocabulary import given_vocabulary

MADE_BY = "distillation.json"
"""Beside what the teacher wrote: what defines it."""
STUDENTS = {"validation", "validation_limit", "vocabulary", "coverage", "max_length", "beam"}
"""Fields of the task that are the student's alone: what the teacher writes is the same with others."""
EVERY = 256
"""Lines that the teacher translates before they are written."""


@dataclass(frozen=True)
class Distillation:
    """What defines a distillation.

    Attributes:
        teacher: A translation model's directory.
        student: The student: `new:SHAPE` or a directory. A new one has no dropout and no label smoothing, unless its
            shape says so.
        data: The fields of the translation task.
        search: The teacher's. Of `best` translations, the one with the best sentence BLEU against the reference is
            taken; with one, no reference is looked at.
        training: The student's.
        seed: Of everything random.
    """

    teacher: str
    student: str
    data: Mapping[str, Any]
    search: Search = field(default_factory=Search)
    training: TrainingSettings = Translation.training
    seed: int = 0


def distil(plan: Distillation, output: Path, say: Callable[[str], None] = lambda line: None) -> Record:
    """Let the teacher translate the training data, train the student on it, write the student with its record.

    What the teacher wrote lies in `OUTPUT.distilled` beside the output; a killed run goes on from there, and from the
    student's checkpoints.

    Raises:
        BadRecipe: The output is not empty, or `OUTPUT.distilled` is of another plan, or another process is at it; or
            see `run_recipe`.
        BadData: See `read_pairs`.
    """
    output = output.resolve()
    require_empty(output)
    directory = output.with_name(output.name + ".distilled")
    if world_size() > 1:
        raise BadRecipe(
            "A teacher translates in one process. Distil without torchrun; headcount train-nmt takes several."
        )
    with alone(directory):
        recipe, teacher = _taught(plan, directory, say)
    return run_recipe(recipe, output, say, notes={"teacher": teacher})


def _taught(plan: Distillation, directory: Path, say: Callable[[str], None]) -> tuple[Recipe, dict[str, object]]:
    """Let the teacher translate, as far as it has not yet; the student's training on that, and who taught it."""
    if "seed" in plan.data:
        raise BadRecipe("The seed is the distillation's, and one for everything. Give seed (--seed), not data.seed.")
    if plan.student.startswith("new:"):
        new_config(plan.student)  # what is wrong with it is better known before the teacher begins
    task = Translation(**{**plan.data, "seed": plan.seed})
    model, tokenizer = load_translator(plan.teacher)
    if isinstance(task.vocabulary, str) and plan.student.startswith("new:"):
        given_vocabulary(task.vocabulary)  # likewise
    train, development, _, _ = task.load()
    start = {"the teacher's weights": digest(model), "the sources": _digest(train.sources)}
    if plan.search.best > 1:
        start["the references"] = _digest(train.targets)
    _require_ours(directory, plan, start)
    teacher = LineTranslator(model.to(own_device()), tokenizer, plan.search)
    say(f"the teacher translates {len(train)} lines …")
    files = {
        "train": _translated(teacher, train, directory, task.bleu_tokenize, say),
        "development": _written(development, directory, "development"),
    }
    data = {name: value for name, value in plan.data.items() if name != "train_limit"}
    if isinstance(plan.data.get("development"), str):
        files.pop("development")
    elif not len(development):
        files.pop("development")
        data["development"] = 0
    student = plan.student
    if student.startswith("new:"):
        data.setdefault("vocabulary", plan.teacher)
        for name in ("dropout", "label_smoothing"):
            if f"{name}=" not in student.replace("attention_dropout=", "").replace("activation_dropout=", ""):
                student += f",{name}=0.0"
    recipe = Recipe(
        student, "unpruned", None, {**data, **files}, task="translation",
        training=with_a_length(plan.training), seed=plan.seed,
    )  # fmt: skip
    weights = start["the teacher's weights"]
    return recipe, {"model": short_source(plan.teacher), "weights": weights, "search": asdict(plan.search)}


def _require_ours(directory: Path, plan: Distillation, start: Mapping[str, str]) -> None:
    """Make the directory, or make sure that what is there is of the same teacher, search and data.

    Args:
        directory: Where the teacher writes.
        plan: What defines the distillation.
        start: Digests of what its names stand for.

    Raises:
        BadRecipe: It is not.
    """
    students = STUDENTS if plan.search.best > 1 else {*STUDENTS, "bleu_tokenize"}
    data = {name: value for name, value in plan.data.items() if name not in students}
    named = {"search": asdict(plan.search), "data": data, "seed": plan.seed}
    file = directory / MADE_BY
    directory.mkdir(parents=True, exist_ok=True)
    if not any(directory.iterdir()):
        write_atomically(file, json.dumps({**named, "start": start}))
    if not file.is_file():
        raise BadRecipe(
            f"'{directory}' is there already, and not of a distillation. Remove it, or name another output."
        )
    found = json.loads(file.read_text(encoding="utf-8"))
    before = found.pop("start", {})
    found["data"] = {name: value for name, value in found.get("data", {}).items() if name not in students}
    changed = differences(found, named)
    # What is told by names is not told again by digests.
    if changed := changed or [f"{name} changed since" for name in start if before.get(name) != start[name]]:
        raise BadRecipe(
            f"'{directory}' is of another distillation: {'; '.join(changed)}. Remove it, or name another output."
        )


@runtime_checkable
class Decoder(Protocol):
    """Turns the ids of many lines into text, as `TranslatorTokenizer` does."""

    def decode_lines(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids."""
        ...


def best_by_bleu(
    hypotheses: list[list[Hypothesis]], tokenizer: Decoder, reference: str, bleu_tokenize: str = "13a"
) -> str:
    """Of the translations of a line, the one with the best sentence BLEU; of equally good ones the likelier.

    Args:
        hypotheses: For each part of the line, its translations, best first.
        tokenizer: The model's.
        reference: What a human wrote.
        bleu_tokenize: How sacreBLEU splits into words.
    """
    bleu = _sentence_bleu(bleu_tokenize)
    options = [
        " ".join(tokenizer.decode_lines([part[min(n, len(part) - 1)].ids for part in hypotheses]))
        for n in range(max(map(len, hypotheses), default=0))
    ]
    return max(options, key=lambda text: bleu.sentence_score(text, [reference]).score, default="")


@cache  # some ways to split read a dictionary, which is not to be read for every line
def _sentence_bleu(bleu_tokenize: str) -> BLEU:
    return BLEU(tokenize=bleu_tokenize, effective_order=True)


def learn_shortlist(
    model: str,
    train: str,
    languages: tuple[str, str] | None = None,
    columns: tuple[str, str] | None = None,
    best: int = 50,
    frequent: int = 50,
    max_length: int = 128,
    train_limit: int | None = None,
    seed: int = 0,
) -> Shortlist:
    """A shortlist for a model's vocabulary, learned from training data; see `Shortlist.learn` and `read_pairs`.

    Pairs with more pieces than `max_length` on one side are left out, as in training: memory grows with the product of
    the sides. Of the others, `train_limit` are drawn by the seed.

    Raises:
        UnsupportedModel: It is no translation model of headcount's.
    """
    tokenizer = load_tokenizer(model)
    if not isinstance(tokenizer, TranslatorTokenizer):
        raise UnsupportedModel(
            f"'{model}' has a {type(tokenizer).__name__}. Shortlists are for translation models of headcount's "
            "(headcount train-nmt makes those)."
        )
    require_least(1, train_limit=train_limit, max_length=max_length)
    pairs, _ = read_pairs(train, languages, columns).without_empty()
    if train_limit is not None:
        pairs = pairs.take(sorted(np.random.default_rng(seed).permutation(len(pairs))[:train_limit].tolist()))
    both = zip(tokenizer.encode_lines(pairs.sources), tokenizer.encode_lines(pairs.targets), strict=True)
    fitting = [pair for pair in both if max(map(len, pair)) <= max_length]
    learned = Shortlist.learn(
        [source for source, _ in fitting], [target for _, target in fitting], len(tokenizer),
        best=best, frequent=frequent, always=(tokenizer.eos_token_id, tokenizer.unk_token_id),
    )  # fmt: skip
    return replace(learned, pieces=tokenizer.digest)


def _translated(
    teacher: LineTranslator, pairs: Pairs, directory: Path, bleu_tokenize: str, say: Callable[[str], None]
) -> str:
    """The two files of a distilled corpus; lines that are there already are not translated again."""
    source, target, part = (directory / name for name in ("train.source", "train.target", "train.target.part"))
    _write(source, pairs.sources)
    if not target.is_file():
        done = _whole_lines(part)
        with part.open("a", encoding="utf-8", newline="\n") as file:
            lines = _choices(teacher, pairs, done, bleu_tokenize)
            while chunk := list(islice(lines, EVERY)):
                file.writelines(f"{line}\n" for line in chunk)
                file.flush()
                done += len(chunk)
                say(f"{done} of {len(pairs)} lines")
        part.replace(target)
    return f"{source},{target}"


def _choices(teacher: LineTranslator, pairs: Pairs, start: int, bleu_tokenize: str) -> Iterator[str]:
    rest = pairs.sources[start:]
    if teacher.search.best == 1:
        return teacher.translate(rest)
    found = zip(teacher.hypotheses(rest), pairs.targets[start:], strict=True)
    options = (best_by_bleu(each, teacher.tokenizer, reference, bleu_tokenize) for each, reference in found)
    return (one_line(text) for text in options)


def _whole_lines(file: Path) -> int:
    """How many whole lines a file has; what follows the last of them is cut off."""
    if not file.is_file():
        return 0
    text = file.read_bytes()
    end = text.rfind(b"\n") + 1
    with file.open("r+b") as cut:
        cut.truncate(end)
    return text[:end].count(b"\n")


def _written(pairs: Pairs, directory: Path, name: str) -> str:
    source, target = directory / f"{name}.source", directory / f"{name}.target"
    _write(source, pairs.sources)
    _write(target, pairs.targets)
    return f"{source},{target}"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _write(file: Path, lines: list[str]) -> None:
    write_atomically(file, "".join(f"{one_line(line)}\n" for line in lines))
