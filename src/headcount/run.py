"""One recipe in, one record and one checkpoint out."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headcount.anatomy import present
from headcount.checkpoint import save
from headcount.errors import BadRecipe, PruningError
from headcount.heads import Subset
from headcount.measure import Size
from headcount.methods.choice import AUTO, choose
from headcount.recipe import Recipe
from headcount.records import Record, library_versions
from headcount.surgery import remove_heads
from headcount.training import Workbench
from headcount.writing import naming_a_full_disk, require_empty, write_atomically, writing_directory

RECORD_NAME = "headcount.json"
"""The record's file name in a pruned model's directory."""
FOLLOWED = 200
"""Development examples that a training is followed by, at every look."""


def run_recipe(recipe: Recipe, output: Path, say: Callable[[str], None] = lambda line: None) -> Record:
    """Carry out a recipe: train, choose, cut, evaluate, and write the pruned model with its record.

    While it runs, checkpoints lie in `OUTPUT.checkpoints` beside the output; a run that was killed goes on from them
    when the same recipe is run again.

    Args:
        recipe: What to do.
        output: The directory to write, new or empty.
        say: Told in a line what goes on.

    Raises:
        BadRecipe: The output is not empty, the budget does not fit, or checkpoints of another recipe are in the way.
        BadData: See the task.
        UnsupportedModel: See `anatomy.survey`.
    """
    output = output.resolve()
    require_empty(output)
    task = recipe.make_task()
    examples = task.load()
    tokenizer = task.tokenizer_for(recipe.model)
    classifier = task.model_for(recipe.model, examples)
    model = classifier.model.to(_device())
    before, size_before = present(model), Size.of(model)
    _, keep = recipe.budget.resolve(before)
    checkpoints = _checkpoints(recipe, output)
    train, development, validation = (
        task.tokenize(tokenizer, table, classifier.labels)
        for table in (examples.train, examples.development, examples.validation)
    )
    collator, followed = task.collator(tokenizer), development.select(range(min(FOLLOWED, len(development))))

    def measure(model: Any) -> dict[str, float]:
        figures: dict[str, float] = task.evaluate(model, followed, collator, device=next(model.parameters()).device)
        return figures

    bench = Workbench(
        model=model,
        data=train,
        collator=collator,
        settings=recipe.training,
        seed=recipe.seed,
        directory=checkpoints,
        trained=classifier.trained,
        development=development,
        measure=measure if followed else None,
    )
    say(
        f"{len(train)} examples to learn from, {len(development)} held out to follow it, {len(validation)} to measure "
        f"on; labels {', '.join(classifier.labels)}."
    )
    if recipe.method == AUTO:
        name, bench.notes["chosen"] = choose(bench.steps)
        recipe = replace(recipe, method=name)
        say(f"Method: {name}. {bench.notes['chosen']}.")
    say(f"{len(before)} heads in {len(before.head_map.sites)} sites; {recipe.method} keeps {_kept(recipe, keep)}.")
    # The Trainer seeds torch's generator; the caller's stays as it was.
    try:
        with torch.random.fork_rng(), naming_a_full_disk(checkpoints):
            subset = recipe.make_method().select(bench, recipe.budget)
    except PruningError:
        if not _anything_in(checkpoints):  # refused before anything was trained
            shutil.rmtree(checkpoints)
        raise
    model = bench.model
    bench.close(subset)
    remove_heads(model, subset)
    metrics = task.evaluate(model, validation, bench.collator, device=next(model.parameters()).device)
    record = Record(
        signature=recipe.signature(len(subset), len(subset.head_map), len(train)),
        recipe=recipe.to_json(),
        subset=subset.to_json(),
        heads=str(subset),
        metrics=metrics,
        size={"before": size_before.to_json(), "after": Size.of(model).to_json()},
        costs=bench.costs,
        dynamics=bench.dynamics,
        notes=bench.notes,
        versions=library_versions(),
    )
    if int(os.environ.get("RANK", "0")) > 0:  # of several processes that train together, one writes
        return record
    with writing_directory(output) as aside:
        save(model, aside, tokenizer)
        (aside / "README.md").write_text(model_card(record, type(model).__name__, subset), encoding="utf-8")
        record.write(aside / RECORD_NAME)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def evaluate(source: str, task: Any) -> dict[str, float]:
    """The task's metrics of a trained model, pruned or not, on the validation examples.

    Raises:
        BadRecipe: The model has no classification head that was trained.
    """
    examples = task.load()
    tokenizer = task.tokenizer_for(source)
    classifier = task.model_for(source, examples)
    if not classifier.trained:
        raise BadRecipe(f"'{source}' has no classification head to evaluate. Train it first: headcount prune.")
    data = task.tokenize(tokenizer, examples.validation, classifier.labels)
    metrics: dict[str, float] = task.evaluate(classifier.model, data, task.collator(tokenizer), device=_device())
    return metrics


def _device() -> torch.device:
    """The machine's accelerator, or the CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def model_card(record: Record, class_name: str, subset: Subset) -> str:
    """The README of a pruned model: how to load it, how it was made, and the one trap."""
    figures = "\n".join(f"- {name}: {value:.4f}" for name, value in record.metrics.items())
    return f"""---
library_name: transformers
tags: [headcount, pruned]
---
A model with {len(subset)} of its {len(subset.head_map)} attention heads; kept per layer: {record.heads}.

```python
import headcount  # teaches transformers to read the structure
from transformers import {class_name}
model = {class_name}.from_pretrained("this directory")
```

Without the import, loading stops with a size mismatch. Do not silence that with `ignore_mismatched_sizes=True`: the
attention weights would be random.

{figures}

`{record.signature}`
"""


def _kept(recipe: Recipe, keep: int) -> str:
    return "all" if recipe.keep is None else f"{keep}{f' of kind {recipe.sites}' if recipe.sites else ''}"


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
                f"{directory} holds checkpoints of another recipe: {'; '.join(_differences(found, wanted))}. "
                "Run that recipe to go on with it, or remove the directory."
            )
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(wanted, indent=1))
    return directory


def _anything_in(checkpoints: Path) -> bool:
    """Whether a run left anything there that another could take up: checkpoints, decisions."""
    return any(path.is_file() and path.name != "recipe.json" for path in checkpoints.rglob("*"))


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name in sorted({*found, *wanted}):
        a, b = found.get(name), wanted.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name} was {a!r}, is {b!r}")
    return lines
