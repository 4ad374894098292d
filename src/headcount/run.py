"""One recipe in, one record and one checkpoint out."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from headcount.anatomy import present
from headcount.checkpoint import save
from headcount.device import own_device
from headcount.errors import BadRecipe, PruningError
from headcount.fingerprint import dataset_digest, digest
from headcount.heads import Subset
from headcount.measure import Size, forward_flops, longest_input
from headcount.methods.choice import AUTO, choose
from headcount.recipe import Recipe, differences
from headcount.records import RECORD_NAME, Record, library_versions, machine
from headcount.settings import is_first_process, world_size
from headcount.surgery import remove_heads
from headcount.tasks.prepared import Prepared
from headcount.training import Workbench
from headcount.writing import alone, naming_a_full_disk, require_empty, write_atomically, writing_directory

BEFORE_TRAINING = ("recipe.json", "start.json", "vocabulary.model", "vocabulary.lock")
"""What stands in a directory of checkpoints before there are any."""


def run_recipe(
    recipe: Recipe,
    output: Path,
    say: Callable[[str], None] = lambda line: None,
    shared: Path | None = None,
    keep_model: bool = True,
) -> Record:
    """Carry out a recipe: train, choose, cut, evaluate, and write the pruned model with its record.

    While it runs, checkpoints lie in `OUTPUT.checkpoints` beside the output; a run that was killed goes on from them
    when the same recipe is run again.

    Args:
        recipe: What to do.
        output: The directory to write, new or empty.
        say: Told in a line what goes on.
        shared: Where stages of training lie that several runs have in common; see `Stage.shared`. None: nowhere.
        keep_model: Write the pruned model; otherwise the record alone.

    Returns:
        The record, as it is written into the output.

    Raises:
        BadRecipe: The output is not empty, the budget does not fit, checkpoints of another recipe, or of other data
            or another model of that name, are in the way, or another process is at the same output.
        BadData: See the task.
        UnsupportedModel: See `anatomy.survey`.
        CorruptCheckpoint: See `headcount.checkpoint.load`.
        SurgeryFailed: See `remove_heads`; a training that diverged ends so.
        DiskFull: The checkpoints so far are whole: the same call goes on from them.
    """
    output = output.resolve()
    require_empty(output)
    if recipe.training.precision == "float16" and own_device().type == "cpu":
        raise BadRecipe(
            "Precision float16 needs an accelerator: CPUs would train in float32. Give bfloat16 or float32."
        )
    # Of several processes that train together, one has the lock.
    with alone(output) if is_first_process() else nullcontext():
        return _carry_out(recipe, output, say, shared, keep_model)


def _carry_out(
    recipe: Recipe, output: Path, say: Callable[[str], None], shared: Path | None, keep_model: bool
) -> Record:
    task = recipe.make_task()
    checkpoints = _checkpoints(recipe, output)
    try:
        prepared = task.prepare(recipe.model, checkpoints)
        _require_same_start(checkpoints, prepared)
        model = prepared.model.to(own_device())
        before, size_before, flops_before = present(model), Size.of(model), _flops(model)
        _, keep = recipe.budget.resolve(before)
    except PruningError:
        _clear(checkpoints)
        raise
    followed = prepared.development.select(range(min(task.followed, len(prepared.development))))

    def measure(model: Any) -> dict[str, float]:
        figures: dict[str, float] = task.follow(model, followed, prepared.collator)
        return figures

    bench = Workbench(
        model=model,
        data=prepared.train,
        collator=prepared.collator,
        settings=recipe.training,
        seed=recipe.seed,
        directory=checkpoints,
        shared=shared,
        trained=prepared.trained,
        development=prepared.development,
        measure=measure if followed else None,
        notes=dict(prepared.notes),
        context={"task": recipe.task, **recipe.data},
    )
    say(prepared.summary)
    if (warmup := recipe.training.warmup) >= bench.steps > 1 and isinstance(warmup, int):
        say(
            f"The learning rate rises for {warmup} steps and the training has {bench.steps}: it never reaches its "
            "peak. Train for longer, or warm up for less (--warmup)."
        )
    if recipe.method == AUTO:
        name, bench.notes["chosen"] = choose(bench.steps)
        recipe = replace(recipe, method=name)
        say(f"Method: {name}. {bench.notes['chosen']}.")
    if recipe.unused:
        unused = " and ".join(recipe.unused)
        say(f"{recipe.method} does without {unused}: where gates learn, earlier weights belong to other heads.")
    say(f"{len(before)} heads in {len(before.head_map.sites)} sites; {recipe.method} keeps {_kept(recipe, keep)}.")
    try:
        with _noise_of_its_own(), naming_a_full_disk(checkpoints):
            subset = recipe.make_method().select(bench, recipe.budget)
    except PruningError:
        _clear(checkpoints)
        raise
    model = bench.model
    bench.close(subset)
    remove_heads(model, subset)
    metrics = task.evaluate(model, prepared.validation, bench.collator, device=next(model.parameters()).device)
    record = Record(
        signature=recipe.signature(len(subset), len(subset.head_map), len(prepared.train)),
        recipe=recipe.to_json(),
        subset=subset.to_json(),
        heads=str(subset),
        metrics=metrics,
        size={"before": size_before.to_json(), "after": Size.of(model).to_json()},
        costs=bench.costs,
        dynamics=bench.dynamics,
        notes=bench.notes,
        versions=library_versions(),
        name=output.name,
        sites=subset.head_map.to_json(),
        flops={"before": flops_before, "after": _flops(model)} if flops_before else {},
        machine=machine(_accelerator()) | {"threads": torch.get_num_threads(), "processes": world_size()},
    )
    if not is_first_process():  # of several that train together, one writes
        return record
    with writing_directory(output) as aside:
        if keep_model:
            save(model, aside, prepared.tokenizer)
            (aside / "README.md").write_text(model_card(record, type(model), subset), encoding="utf-8")
        else:
            model.config.save_pretrained(aside)  # the structure; its speed can be measured without the weights
        record.write(aside / RECORD_NAME)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def evaluate(source: str, task: Any) -> dict[str, float]:
    """The task's metrics of a trained model, pruned or not, on the validation examples.

    Raises:
        BadRecipe: The model was not trained on the task.
    """
    prepared = task.prepare(source)
    if not prepared.trained:
        raise BadRecipe(f"'{source}' was not trained on this task. Train it first: headcount prune.")
    metrics: dict[str, float] = task.evaluate(
        prepared.model, prepared.validation, prepared.collator, device=own_device()
    )
    return metrics


def _accelerator() -> str | None:
    """The accelerator's name."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    found = torch.accelerator.current_accelerator()
    return None if found is None else found.type


def _flops(model: Any) -> int:
    """Operations of a forward pass over 128 tokens, or as many as the model reads; 0 if it does not read tokens."""
    try:
        return forward_flops(model, 1, min(128, longest_input(model) or 128))
    except PruningError:
        return 0


@contextmanager
def _noise_of_its_own() -> Iterator[None]:
    """The Trainer seeds Python's, NumPy's and torch's generators; the caller's go on where they were."""
    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)


def model_card(record: Record, kind: type, subset: Subset) -> str:
    """The README of a pruned model: how to load it, how it was made, and the one trap."""
    of_transformers = getattr(transformers, kind.__name__, None) is kind
    module = "transformers" if of_transformers else kind.__module__
    trap = (
        "Without the import, loading stops with a size mismatch. Do not silence that with "
        "`ignore_mismatched_sizes=True`: the\nattention weights would be random.\n\n"
        if of_transformers
        else ""
    )
    figures = "\n".join(f"- {name}: {value:.4f}" for name, value in record.metrics.items())
    return f"""---
library_name: transformers
tags: [headcount, pruned]
---
A model with {len(subset)} of its {len(subset.head_map)} attention heads; kept per layer: {record.heads}.

```python
import headcount  # teaches transformers to read the structure
from {module} import {kind.__name__}
model = {kind.__name__}.from_pretrained("this directory")
```

{trap}{figures}

`{record.signature}`
"""


def _kept(recipe: Recipe, keep: int) -> str:
    if recipe.keep is None or recipe.method == "unpruned":
        return "all"
    return f"{keep}{f' of kind {recipe.sites}' if recipe.sites else ''}"


def _checkpoints(recipe: Recipe, output: Path) -> Path:
    """The directory for this run's checkpoints; those of another recipe are not touched.

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


def _require_same_start(checkpoints: Path, prepared: Prepared) -> None:
    """Checkpoints are gone on with from the model and the examples that they began with, whatever names those have.

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


def _clear(checkpoints: Path) -> None:
    """Remove the directory of a run that was refused before anything was trained."""
    if is_first_process() and not _anything_in(checkpoints):
        shutil.rmtree(checkpoints)


def _anything_in(checkpoints: Path) -> bool:
    """Whether a run left anything there that another could take up: checkpoints, decisions."""
    return any(path.is_file() and path.name not in BEFORE_TRAINING for path in checkpoints.rglob("*"))
