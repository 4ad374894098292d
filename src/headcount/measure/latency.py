"""Paired, interleaved benchmark: how fast models are, next to each other on the same batch.

A machine's speed drifts by more than a few heads are worth. So every round runs every model once, close in
time, and what counts is the ratio within a round; its median is stable where the milliseconds are not.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from headcount.anatomy.probe import evaluating
from headcount.errors import BadRecipe
from headcount.measure.flops import forward_flops, model_inputs, require_positive, token_batch
from headcount.measure.matmul import matmul_precision
from headcount.measure.size import Size
from headcount.records import signature


@dataclass(frozen=True)
class Timing:
    """What one model costs, and how it compares with the first model of the comparison.

    Attributes:
        name: The model's name in the comparison.
        milliseconds: Median time of one forward pass over the whole batch.
        tokens_per_second: Tokens of the batch (of one side, for a translation model) by that median.
        speedup: Median, over rounds, of the first model's time divided by this model's.
        speedup_low: Lower quartile of those ratios.
        speedup_high: Upper quartile.
        size: Parameters and bytes.
        flops: Floating-point operations of the forward pass; see `forward_flops`.
        predicted_speedup: The first model's operations divided by this model's: the ideal.
        share_of_prediction: `speedup / predicted_speedup`; above 1 where what went was slower than the rest.
        samples: Milliseconds of every round, in order, so that everything above can be worked out again.
    """

    name: str
    milliseconds: float
    tokens_per_second: float
    speedup: float
    speedup_low: float
    speedup_high: float
    size: Size
    flops: int
    predicted_speedup: float
    share_of_prediction: float
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
        matmul: Precision of float32 products, as `matmul_precision` names it: the CPU's speed depends on it.
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

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {"signature": self.signature, **asdict(self)}


def compare(
    models: Mapping[str, nn.Module],
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
        models: Models by name, all on one device. The others are compared with the first.
        batch_size: Sequences in the batch.
        length: Tokens in each sequence.
        threads: CPU threads to run on.
        rounds: Rounds that count.
        warmup: Rounds before those; 0 or more.
        seed: Seed of the batch's tokens.

    Raises:
        BadRecipe: A number is too small, the length is more than a model can read, or the devices differ.
        UnsupportedModel: A model does not take token ids.
    """
    require_positive(batch_size=batch_size, length=length, threads=threads, rounds=rounds)
    if warmup < 0:
        raise BadRecipe(f"Got warmup {warmup}. Give a whole number from 0 up.")
    device = _one_device(models)
    ids = token_batch(list(models.values()), batch_size, length, seed)
    inputs = {name: model_inputs(model, ids) for name, model in models.items()}
    samples: dict[str, list[float]] = {name: [] for name in models}
    with _threads(threads), evaluating(list(models.values())):
        flops = {name: forward_flops(model, batch_size, length) for name, model in models.items()}
        with torch.inference_mode():
            for number in range(-warmup, rounds):
                for name in rotated(list(models), number):
                    milliseconds = _milliseconds(models[name], inputs[name], device)
                    if number >= 0:
                        samples[name].append(milliseconds)
    sizes = {name: Size.of(model) for name, model in models.items()}
    timings = summarise(samples, sizes, flops, tokens=batch_size * length)
    where = str(device)
    return Comparison(timings, batch_size, length, threads, rounds, warmup, seed, where, matmul_precision())


def summarise(
    samples: Mapping[str, Sequence[float]], sizes: Mapping[str, Size], flops: Mapping[str, int], tokens: int
) -> tuple[Timing, ...]:
    """The timings that these samples amount to.

    Args:
        samples: For each model, the milliseconds of every round, in order; the i-th of each are one round.
        sizes: The size of each model.
        flops: The operations of each model's forward pass.
        tokens: Tokens of one forward pass.
    """
    first = next(iter(samples))
    timings = []
    for name, times in samples.items():
        ratios = np.asarray(samples[first], dtype=float) / np.asarray(times, dtype=float)
        low, speedup, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
        milliseconds = float(np.median(times))
        predicted = flops[first] / flops[name]
        timings.append(
            Timing(
                name=name,
                milliseconds=milliseconds,
                tokens_per_second=1000 * tokens / milliseconds,
                speedup=speedup,
                speedup_low=low,
                speedup_high=high,
                size=sizes[name],
                flops=flops[name],
                predicted_speedup=predicted,
                share_of_prediction=speedup / predicted,
                samples=tuple(times),
            )
        )
    return tuple(timings)


def rotated(names: list[str], number: int) -> list[str]:
    """The order in which round `number` runs the models: each is first as often as any other."""
    start = number % len(names)
    return names[start:] + names[:start]


def _milliseconds(model: nn.Module, inputs: Mapping[str, Any], device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    model(**inputs)
    _synchronise(device)
    return 1000 * (time.perf_counter() - start)


def _synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told: a GPU's calls return before their work is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _one_device(models: Mapping[str, nn.Module]) -> torch.device:
    if not models:
        raise BadRecipe("Got no models to compare. Give at least one.")
    devices = {name: next(model.parameters()).device for name, model in models.items()}
    if len(set(devices.values())) > 1:
        raise BadRecipe(
            f"Models to compare must be on one device, got {devices}. Move them to one with `model.to(...)`."
        )
    return next(iter(devices.values()))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
