"""The final weights of a training (last, best, mean of several, or exponential average), and early stopping.

The Trainer's checkpoints hold the kept weights, so that a killed training resumes with them.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headcount.errors import BadRecipe
from headcount.settings.training import TrainingSettings

WEIGHTS, STATE = "kept.safetensors", "kept.json"
"""Files in a checkpoint: the kept weights, and the state of the keeper."""
NOTHING_KEPT: Mapping[str, Any] = {"smoothing": 0.0, "average": 0, "keep_best": False, "stop_after": None}
"""Settings of a training that ends with its last weights."""
Weights = dict[str, Tensor]


class Keeper:
    """Keeps weights during a training, and stops the training if its figures stall.

    Args:
        settings: Training settings: `smoothing`, `average`, `keep_best`, `stop_after` and `judge_by` apply.
        measured: Whether there are figures of the model on development data.
        judges: Whether to compare evaluations. False if gates learn: earlier weights belong to other heads.
    """

    def __init__(self, settings: TrainingSettings, measured: bool, judges: bool = True) -> None:
        self.settings = settings
        self.judges = judges and (settings.keep_best or settings.stop_after is not None)
        self.smooth: Weights = {}
        self.best: Weights = {}
        self.last: list[Weights] = []
        self.figure: float | None = None
        self.stalls, self.stopped = 0, False
        if self.judges and not measured:
            raise BadRecipe(
                "To keep the best weights, or to stop early, a training needs development data: hold out more examples."
            )

    def follow(self, model: nn.Module, step: int) -> None:
        """Update the exponential average. The first steps have a larger share, as in Marian."""
        if not self.settings.smoothing:
            return
        share = max(self.settings.smoothing, 1 - (step + 1) / (step + 10))
        weights = _weights(model)
        if not self.smooth:
            self.smooth = {name: _whole(weight).clone() for name, weight in weights.items()}
        for name, weight in weights.items():
            self.smooth[name].lerp_(_whole(weight), share)

    def look(self, model: nn.Module, figures: Mapping[str, float]) -> bool:
        """Take the weights of this evaluation, and compare its figures. Return whether the training should end."""
        now = self.smooth or _weights(model)
        if self.settings.average:
            self.last = [*self.last, _copy(now)][-self.settings.average :]
        if not self.judges:
            return False
        value = self._worth(figures)
        if self.figure is None or value > self.figure:
            self.figure, self.stalls = value, 0
            self.best = _copy(now) if self.settings.keep_best else {}
        else:
            self.stalls += 1
        if self.settings.stop_after is not None and self.stalls >= self.settings.stop_after:
            self.stopped = True
            return True
        return False

    def save(self, checkpoint: str | Path) -> None:
        """Write the kept weights and the state into a checkpoint."""
        directory = Path(checkpoint)
        groups = {"smooth": self.smooth, "best": self.best, **{f"last{i}": w for i, w in enumerate(self.last)}}
        flat = {f"{group}|{name}": weight for group, of in groups.items() for name, weight in of.items()}
        save_file({name: weight.contiguous() for name, weight in flat.items()}, directory / WEIGHTS)
        found = {"figure": self.figure, "stalls": self.stalls, "stopped": self.stopped}
        (directory / STATE).write_text(json.dumps(found))

    def load(self, checkpoint: str | Path, device: torch.device) -> None:
        """Load the kept weights and the state of a checkpoint, if it has them, onto a device."""
        directory = Path(checkpoint)
        if not (directory / STATE).is_file():
            return
        found = json.loads((directory / STATE).read_text())
        self.figure, self.stalls, self.stopped = found["figure"], found["stalls"], found["stopped"]
        groups: dict[str, Weights] = {}
        for name, weight in load_file(directory / WEIGHTS, device=str(device)).items():
            group, _, parameter = name.partition("|")
            groups.setdefault(group, {})[parameter] = weight
        self.smooth, self.best = groups.pop("smooth", {}), groups.pop("best", {})
        self.last = [groups[group] for group in sorted(groups, key=lambda group: int(group.removeprefix("last")))]

    def finish(self, model: nn.Module) -> None:
        """Put the final weights into the model."""
        chosen = self.smooth
        if self.last:
            chosen = {name: torch.stack([each[name] for each in self.last]).mean(0) for name in self.last[0]}
        elif self.best:
            chosen = self.best
        _put(model, chosen)

    def _worth(self, figures: Mapping[str, float]) -> float:
        """Return the figure to compare, negated if it is a loss. NaN counts as minus infinity."""
        name = self.settings.judge_by or next(iter(figures))
        if name not in figures:
            raise BadRecipe(f"Cannot judge by '{name}'. On development data there are: {', '.join(figures)}.")
        worth = -figures[name] if name == "loss" else figures[name]
        return -math.inf if math.isnan(worth) else worth

    @contextmanager
    def smoothed(self, model: nn.Module) -> Iterator[None]:
        """Give the model its exponential average within the block, if there is one."""
        if not self.smooth:
            yield
            return
        raw = _copy(_weights(model))
        _put(model, self.smooth)
        try:
            yield
        finally:
            _put(model, raw)


def _weights(model: nn.Module) -> Weights:
    """Return the trainable weights by name, without gates."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _whole(weight: Tensor) -> Tensor:
    """Return the weight in float32 or higher. In half precision, a small share of it would round to zero."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def _put(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, weight in weights.items():
        parameters[name].copy_(weight)
