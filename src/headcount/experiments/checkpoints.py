"""Decide whether existing checkpoints belong to this run. Checkpoints of other runs stay untouched."""

import json
import shutil
from pathlib import Path

from headcount.directory.fingerprint import dataset_digest, digest
from headcount.errors import BadRecipe
from headcount.experiments.recipe import Recipe, differences
from headcount.settings.training import is_first_process
from headcount.settings.writing import write_atomically
from headcount.tasks.protocol import Prepared

BEFORE_TRAINING = ("recipe.json", "start.json", "vocabulary.model", "vocabulary.lock")
"""The files of a checkpoint directory that exist before the first checkpoint."""


def checkpoints_of(recipe: Recipe, output: Path) -> Path:
    """Return the directory for this run's checkpoints. Checkpoints of another recipe stay untouched.

    Raises:
        BadRecipe: Checkpoints of another recipe are there; the message shows the difference.
    """
    directory = output.with_name(output.name + ".checkpoints")
    file, wanted = directory / "recipe.json", json.loads(json.dumps(recipe.to_json()))
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != wanted and _anything_in(directory):
            raise BadRecipe(
                f"{directory} holds checkpoints of another recipe: {'; '.join(differences(found, wanted))}. "
                "Run that recipe to go on with it, or remove the directory."
            )
        if found != wanted and is_first_process():  # a vocabulary, say, that the other recipe wanted
            shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if is_first_process():  # of several that train together, one writes
        write_atomically(file, json.dumps(wanted, indent=1))
    return directory


def require_same_start(checkpoints: Path, prepared: Prepared) -> None:
    """Make sure that existing checkpoints began with the same model and the same examples as this run.

    Raises:
        BadRecipe: A file was changed since.
    """
    file = checkpoints / "start.json"
    wanted = {
        "the model": digest(prepared.model),
        "the training examples": dataset_digest(prepared.train),
        "the examples held out": dataset_digest(prepared.development),
    }
    if file.is_file() and _anything_in(checkpoints):
        found = json.loads(file.read_text(encoding="utf-8"))
        if changed := [name for name, each in wanted.items() if found[name] != each]:
            raise BadRecipe(
                f"{checkpoints} holds checkpoints of another start: {' and '.join(changed)} changed since. Put back "
                "what was there to go on with it, or remove the directory."
            )
    if is_first_process():
        write_atomically(file, json.dumps(wanted, indent=1))


def clear(checkpoints: Path) -> None:
    """Remove the directory of a run that was refused before anything was trained."""
    if is_first_process() and not _anything_in(checkpoints):
        shutil.rmtree(checkpoints)


def _anything_in(checkpoints: Path) -> bool:
    """Say whether a run left checkpoints or decisions that another run could use."""
    return any(path.is_file() and path.name not in BEFORE_TRAINING for path in checkpoints.rglob("*"))
