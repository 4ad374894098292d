"""What commands have in common: arguments, how their values are read, and what is set up before work begins."""

import json
import logging
from typing import Annotated, Any

import typer

from headcount.errors import BadRecipe
from headcount.settings.schema import require_least

MOST = 1024
"""More are a slip of the finger, and some systems cannot start them."""
Model = Annotated[str, typer.Argument(help="A model directory, or a name on the Hub.")]
Json = Annotated[bool, typer.Option("--json", help="Print plain data instead of a table.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads. Default: torch's own choice.")]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Only runs with all of these in their names, whole between hyphens: sst2, dsp-joint, k12."),
]
Workers = Annotated[int | None, typer.Option(help="Runs at a time on this machine. Default: 1.")]
Ray = Annotated[
    str | None, typer.Option(help="Instead, on a Ray cluster: host:port, or auto. The output is on shared storage.")
]
RayCpus = Annotated[float | None, typer.Option(help="Cores of a run on Ray; fractions are allowed. Default: 1.")]
RayGpus = Annotated[float | None, typer.Option(help="GPUs of a run on Ray; fractions are allowed. Default: 0.")]
ThreadsOfARun = Annotated[
    int | None, typer.Option("--threads", help="CPU threads of a run. Default: the cores, shared out.")
]
Task = Annotated[str, typer.Option(help="classification or translation.")]

_DATA, _TRAINING = "Data", "Training"
Train = Annotated[
    str,
    typer.Option(
        help="Training data: TSV, CSV, JSON lines (also .gz), or hub:name:config:split; to translate also two text "
        "files, source,target.",
        rich_help_panel=_DATA,
    ),
]
Validation = Annotated[str, typer.Option(help="Data to measure on.", rich_help_panel=_DATA)]
Development = Annotated[
    str | None,
    typer.Option(
        help="Examples held out from training data to score heads on: how many (default: a twentieth, at most 500); to "
        "translate also data of its own.",
        rich_help_panel=_DATA,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        help="Text column, or two for pairs: premise,hypothesis; source,target. Default: guessed.",
        rich_help_panel=_DATA,
    ),
]
Label = Annotated[str | None, typer.Option(help="Label column. Default: guessed.", rich_help_panel=_DATA)]
Labels = Annotated[
    str | None,
    typer.Option(help="The data's labels in the order of the model's classes: a,b,c.", rich_help_panel=_DATA),
]
Skip = Annotated[bool, typer.Option("--skip-unlabelled", help="Leave out rows without a label.", rich_help_panel=_DATA)]
Languages = Annotated[
    str | None, typer.Option(help="Of source and target, where data names them: de,en.", rich_help_panel=_DATA)
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        help="Tokens an example is cut to; longer training pairs are left out of translation. Default: 128.",
        rich_help_panel=_DATA,
    ),
]
TrainLimit = Annotated[
    int | None, typer.Option(help="Learn from this many examples, drawn by the seed.", rich_help_panel=_DATA)
]
ValidationLimit = Annotated[int | None, typer.Option(help="Measure on the first n examples.", rich_help_panel=_DATA)]
Vocabulary = Annotated[
    str | None,
    typer.Option(
        help="Of a new translation model: how many pieces (8000), SentencePiece's file, or a model that has it.",
        rich_help_panel=_DATA,
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="Any other field of the task: beam=1; of Chinese or Japanese coverage=0.9995, bleu_tokenize=zh.",
        rich_help_panel=_DATA,
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(
        help="Default: 3; none for a trained model and a pipelined method.",
        rich_help_panel=_TRAINING,
    ),
]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps, instead of epochs.", rich_help_panel=_TRAINING)]
BatchSize = Annotated[
    int | None, typer.Option(help="Examples per step and device. Default: 32.", rich_help_panel=_TRAINING)
]
BatchTokens = Annotated[
    int | None,
    typer.Option(help="Instead: tokens per step and device. Default of translation: 4096.", rich_help_panel=_TRAINING),
]
Accumulation = Annotated[int | None, typer.Option(help="Batches per optimiser step.", rich_help_panel=_TRAINING)]
Rate = Annotated[
    float | None,
    typer.Option(help="Peak learning rate of the weights. Default: 2e-5; translation 5e-4.", rich_help_panel=_TRAINING),
]
Warmup = Annotated[
    str | None,
    typer.Option(
        help="Steps in which the learning rate rises: a share (0.1) or a number (4000).", rich_help_panel=_TRAINING
    ),
]
Decay = Annotated[float | None, typer.Option(help="Weight decay.", rich_help_panel=_TRAINING)]
Precision = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16 (mixed).", rich_help_panel=_TRAINING)]
Every = Annotated[int | None, typer.Option(help="Steps between checkpoints; 0: none.", rich_help_panel=_TRAINING)]
Training = Annotated[
    list[str] | None,
    typer.Option(
        "--training",
        help="Any other field of TrainingSettings: schedule=cosine, smoothing=0.0001, keep_best=true, stop_after=10.",
        rich_help_panel=_TRAINING,
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


def names(text: str | None) -> tuple[str, ...] | None:
    """Names between commas."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def pair(text: str | None) -> tuple[str, str] | None:
    """Two names between commas.

    Raises:
        BadRecipe: There are more, or fewer.
    """
    found = names(text)
    if found is not None and len(found) != 2:
        raise BadRecipe(f"Got '{text}'. Give two names, source,target.")
    return None if found is None else (found[0], found[1])


def given(**values: Any) -> dict[str, Any]:
    """The arguments that were given: those that are neither None nor False."""
    return {name: value for name, value in values.items() if value is not None and value is not False}


def number_or_name(text: str | None) -> int | str | None:
    """A whole number, or what is not one as it is."""
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else text


def settings_of(option: str, settings: list[str] | None) -> dict[str, Any]:
    """Values by name, from name=value; a value is JSON, or else text.

    Raises:
        BadRecipe: One of them is not of that form.
    """
    found: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise BadRecipe(f"Cannot read {option} '{setting}'. Write name=value, as in {option} seed=1.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def training_of(task: str, warmup: str | None, others: list[str] | None, **values: Any) -> Any:
    """The task's training settings, with what was given instead.

    Raises:
        BadRecipe: There is no such setting, or a value is not allowed.
    """
    from headcount.experiments.recipe import training_for

    changes = given(**values) | settings_of("--training", others)
    if warmup is not None:
        changes["warmup"] = _share_or_number(warmup)
    return training_for(task, changes)


def _share_or_number(text: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise BadRecipe(f"Got warmup '{text}'. Give a share of the steps (0.1), or how many (4000).") from None


def require_sane(**counts: int | None) -> None:
    """Make sure that numbers of threads or processes, where they are given, are none that a system cannot start.

    Raises:
        BadRecipe: One is; the message names it.
    """
    require_least(1, **counts)
    for name, count in counts.items():
        if count is not None and count > MOST:
            raise BadRecipe(f"Got {name} {count}. Give {MOST} or fewer; more than the cores do not help.")


def set_up(threads: int | None) -> None:
    """Quiet the libraries, and set the CPU threads; None leaves torch's own choice."""
    import torch

    from headcount.running.quiet import silence_libraries

    silence_libraries()
    logging.getLogger("headcount").setLevel(logging.WARNING)
    require_sane(threads=threads)
    if threads is not None:
        torch.set_num_threads(threads)
