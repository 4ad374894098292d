"""Paired, interleaved benchmark: how fast models are, in whatever runtime, next to each other on the same batch.

A machine's speed drifts by more than a few heads are worth. So every round runs every model once, close in
time, and what counts is the ratio within a round; its median is stable where the milliseconds are not.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count

import numpy as np
import torch
from torch import nn

from headcount.anatomy.example import evaluating
from headcount.errors import BadRecipe
from headcount.running.libraries import torch_threads
from headcount.running.measure.flops import forward_flops, model_inputs, token_batch
from headcount.running.measure.size import Size, parameters
from headcount.running.runtimes import PyTorch, Runner
from headcount.settings.records import signature
from headcount.settings.schema import require_least


@dataclass(frozen=True)
class Timing:
    """What one model costs, and how it compares with the first model of the comparison.

    Attributes:
        name: The model's name in the comparison.
        runtime: What ran it, with its version.
        milliseconds: Median time of one forward pass over the whole batch.
        tokens_per_second: Tokens of the batch (of one side, for a translation model) by that median.
        speedup: Median, over rounds, of the first model's time divided by this model's.
        speedup_low: Lower quartile of those ratios.
        speedup_high: Upper quartile.
        size: Parameters and bytes; of an export, the bytes of its files.
        flops: Floating-point operations of the forward pass; see `forward_flops`. None for an export beside which no
            configuration tells the structure; then there is nothing to predict from.
        predicted_speedup: The first model's operations divided by this model's: the ideal.
        share_of_prediction: `speedup / predicted_speedup`; above 1 where what went was slower than the rest.
        samples: Milliseconds of every round, in order, so that everything above can be worked out again.
    """

    name: str
    runtime: str
    milliseconds: float
    tokens_per_second: float
    speedup: float
    speedup_low: float
    speedup_high: float
    size: Size
    flops: int | None
    predicted_speedup: float | None
    share_of_prediction: float | None
    samples: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """The timings of models that ran side by side, with the conditions they ran under.

    Attributes:
        timings: One for each model, in the order given; the first is what the others are compared with.
        batch_size: Sequences in the batch.
        length: Tokens in each sequence; none is padding.
        threads: CPU threads.
        rounds: Rounds that counted.
        warmup: Rounds before those, thrown away.
        seed: Seed of the batch's tokens.
        device: Where the models ran.
        matmul: Precision of float32 products, as `torch.get_float32_matmul_precision` names it: speed depends on it.
    """

    timings: tuple[Timing, ...]
    batch_size: int
    length: int
    threads: int
    rounds: int
    warmup: int
    seed: int
    device: str
    matmul: str

    @property
    def signature(self) -> str:
        """The conditions in one line: `batch:8|length:128|threads:1|…`."""
        conditions = {
            "batch": self.batch_size,
            "length": self.length,
            "threads": self.threads,
            "rounds": self.rounds,
        }
        rest = {"seed": self.seed, "device": self.device, "matmul": self.matmul, "torch": torch.__version__}
        return signature({**conditions, **rest})

    def to_json(self) -> dict[str, object]:
        """The comparison as plain data."""
        return {"signature": self.signature, **asdict(self)}


@dataclass(frozen=True)
class Facts:
    """What is known of a model without a clock.

    Attributes:
        runtime: What runs it, with its version.
        size: Parameters and bytes.
        flops: Operations of the forward pass, or None where nothing tells the structure.
    """

    runtime: str
    size: Size
    flops: int | None


def compare(
    models: Mapping[str, nn.Module | Runner],
    *,
    batch_size: int = 8,
    length: int = 128,
    threads: int = 1,
    rounds: int = 20,
    warmup: int = 3,
    seed: int = 0,
) -> Comparison:
    """Time the forward passes of these models, interleaved, on one random batch.

    Every round runs every model once, beginning with another model each time. Models are in evaluation mode
    meanwhile; their modes and the number of threads are restored.

    Args:
        models: Models by name, all on one device: modules, or what `open_model` opened in any runtime. The others are
            compared with the first.
        batch_size: Sequences in the batch.
        length: Tokens in each sequence.
        threads: CPU threads to run on.
        rounds: Rounds that count.
        warmup: Rounds before those; 0 or more.
        seed: Seed of the batch's tokens.

    Raises:
        BadRecipe: A number is too small, the length is more than a model can read, the devices differ, or a model was
            opened for another number of threads.
        UnsupportedModel: A model does not take token ids.
    """
    require_least(1, batch_size=batch_size, length=length, threads=threads, rounds=rounds)
    require_least(0, warmup=warmup)
    runners = {
        name: PyTorch(model, threads) if isinstance(model, nn.Module) else model for name, model in models.items()
    }
    device = _one_device(runners)
    _require_threads(runners, threads)
    structures = {name: runner.structure() for name, runner in runners.items()}
    known = [structure for structure in structures.values() if structure is not None]
    if not known:
        raise BadRecipe(f"Nothing tells what {', '.join(runners)} read: put the models' config.json beside them.")
    ids = token_batch(known, batch_size, length, seed)
    inputs = {name: model_inputs(structures[name] or known[0], ids) for name in runners}
    samples: dict[str, list[float]] = {name: [] for name in runners}
    with torch_threads(threads), evaluating(known):
        facts = {name: _facts(runner, structures[name], batch_size, length) for name, runner in runners.items()}
        for number in range(-warmup, rounds):
            for name in rotated(list(runners), number):
                milliseconds = _milliseconds(runners[name], inputs[name], device)
                if number >= 0:
                    samples[name].append(milliseconds)
    timings = summarise(samples, facts, tokens=batch_size * length)
    where = str(device)
    return Comparison(timings, batch_size, length, threads, rounds, warmup, seed, where, _matmul_precision())


def _matmul_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # PyTorch's answer where a setting for one backend contradicts the one for all
        return "mixed"


def summarise(samples: Mapping[str, Sequence[float]], facts: Mapping[str, Facts], tokens: int) -> tuple[Timing, ...]:
    """The timings that these samples amount to.

    Args:
        samples: For each model, the milliseconds of every round, in order; the i-th of each are one round.
        facts: What else is known of each model.
        tokens: Tokens of one forward pass.
    """
    first = next(iter(samples))
    timings = []
    for name, times in samples.items():
        ratios = np.asarray(samples[first], dtype=float) / np.asarray(times, dtype=float)
        low, speedup, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
        milliseconds = float(np.median(times))
        whole, own = facts[first].flops, facts[name].flops
        predicted = None if whole is None or own is None else whole / own
        timings.append(
            Timing(
                name=name,
                runtime=facts[name].runtime,
                milliseconds=milliseconds,
                tokens_per_second=1000 * tokens / milliseconds,
                speedup=speedup,
                speedup_low=low,
                speedup_high=high,
                size=facts[name].size,
                flops=own,
                predicted_speedup=predicted,
                share_of_prediction=None if predicted is None else speedup / predicted,
                samples=tuple(times),
            )
        )
    return tuple(timings)


def distinct(names: Sequence[str]) -> list[str]:
    """The names; one that comes again is numbered, so that a model next to itself shows what noise there is."""
    found: list[str] = []
    for name in names:
        ways = chain([name], (f"{name} ({number})" for number in count(2)))
        found.append(next(way for way in ways if way not in found))
    return found


def rotated(names: list[str], number: int) -> list[str]:
    """The order in which round `number` runs the models: each is first as often as any other."""
    start = number % len(names)
    return names[start:] + names[:start]


def _facts(runner: Runner, structure: nn.Module | None, batch_size: int, length: int) -> Facts:
    stored = runner.file_bytes()
    if structure is None:
        return Facts(runner.runtime, Size(None, stored or 0), None)
    size = Size.of(structure) if stored is None else Size(parameters(structure), stored)
    return Facts(runner.runtime, size, forward_flops(structure, batch_size, length))


def _milliseconds(runner: Runner, inputs: Mapping[str, torch.Tensor], device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    runner(inputs)
    _synchronise(device)
    return 1000 * (time.perf_counter() - start)


def _synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told: a GPU's calls return before their work is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _one_device(runners: Mapping[str, Runner]) -> torch.device:
    if not runners:
        raise BadRecipe("Got no models to compare. Give at least one.")
    devices = {name: runner.device for name, runner in runners.items()}
    if len(set(devices.values())) > 1:
        raise BadRecipe(
            f"Models to compare must be on one device, got {devices}. Move them to one with `model.to(...)`."
        )
    return next(iter(devices.values()))


def _require_threads(runners: Mapping[str, Runner], threads: int) -> None:
    """Make sure that all run on that many threads: most runtimes are told once, when the model is opened."""
    for name, runner in runners.items():
        if runner.threads != threads:
            raise BadRecipe(
                f"'{name}' was opened for {runner.threads} threads; the comparison is for {threads}. "
                f"Open it with open_model(..., threads={threads})."
            )
