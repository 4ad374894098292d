"""The files of a stage of training, from which a killed run resumes and which several runs may share."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from headcount.directory.fingerprint import dataset_digest, digest
from headcount.running.measure import peak_so_far
from headcount.settings.training import world_size
from headcount.settings.writing import write_atomically


@dataclass(frozen=True)
class StageFiles:
    """The checkpoints of a stage, and the files beside them.

    Attributes:
        directory: Directory of the files. None: nothing is written.
        shared: Whether other runs may train the same stage.
    """

    directory: Path | None
    shared: bool = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock a shared stage within the block. One process trains the stage; others wait, and find it finished."""
        if self.directory is None or not self.shared or world_size() > 1:
            yield
            return
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.directory}.lock"):  # the system releases it when a process dies
            yield

    def last_checkpoint(self) -> tuple[str | None, int]:
        """Return the newest complete checkpoint and its step, or None and 0."""
        if self.directory is None or not self.directory.is_dir():
            return None, 0
        steps = {
            int(path.name.rpartition("-")[2]): path
            for path in self.directory.glob("checkpoint-*")
            if _is_whole(path / "trainer_state.json")
        }
        return (str(steps[max(steps)]), max(steps)) if steps else (None, 0)

    def clock(self) -> "Clock":
        """Return the clock of the stage, with the costs before a kill."""
        return Clock(None if self.directory is None else self.directory / "costs.json")

    def has_moments(self) -> bool:
        """Return whether Adam's state at the stage's end was written."""
        return self._moments is not None and self._moments.is_file()

    def read_moments(self) -> dict[str, dict[str, Tensor]]:
        """Return Adam's state for each parameter at the stage's end."""
        assert self._moments is not None
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in load_file(self._moments).items():
            parameter, _, key = name.rpartition("|")
            found.setdefault(parameter, {})[key] = tensor
        return found

    def write_moments(self, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write Adam's state, if there is a directory."""
        if self._moments is not None:
            flat = {f"{name}|{key}": value for name, state in moments.items() for key, value in state.items()}
            aside = self._moments.with_suffix(".tmp")
            save_file({name: value.contiguous() for name, value in flat.items()}, aside)
            aside.replace(self._moments)

    @property
    def _moments(self) -> Path | None:
        return None if self.directory is None else self.directory / "moments.safetensors"


def name_of_stage(parts: Sequence[Any], model: Any, *data: Dataset | None) -> str:
    """Return the name of a shared stage: a digest of its definition, its model and its data."""
    # Models with the same weights may differ in their configurations, such as in dropout.
    config = getattr(model, "config", None)
    defined = json.dumps([*parts, {} if config is None else config.to_dict()], sort_keys=True, default=str)
    digests = (digest(model), *map(dataset_digest, data))
    return hashlib.sha256("|".join((defined, *digests)).encode()).hexdigest()[:16]


class Clock:
    """Writes the costs so far beside each checkpoint, in seconds and bytes, so that a resumed run includes them.

    Attributes:
        before: The `seconds` and `peak_memory` before the checkpoint from which this process resumes.
    """

    def __init__(self, file: Path | None) -> None:
        self.file, self.start = file, time.perf_counter()
        self.before: dict[str, float] = {"seconds": 0.0, "peak_memory": 0}
        if file is not None and file.is_file():
            self.before = json.loads(file.read_text())

    def write(self) -> None:
        """Write the costs so far, if there is a file."""
        if self.file is not None:
            seconds = self.before["seconds"] + time.perf_counter() - self.start
            memory = max(self.before["peak_memory"], peak_so_far())
            write_atomically(self.file, json.dumps({"seconds": seconds, "peak_memory": memory}))


def _is_whole(state: Path) -> bool:
    """Return whether a state file is complete. The Trainer writes it last, in place: a kill may leave half of it."""
    try:
        json.loads(state.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True
