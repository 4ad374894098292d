"""Carry out one recipe, and write one record and one model directory."""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from headcount.anatomy import present
from headcount.directory.model_card import model_card
from headcount.directory.model_files import save
from headcount.errors import BadRecipe, PruningError
from headcount.experiments.checkpoints import checkpoints_of, clear, require_same_start
from headcount.experiments.recipe import Recipe
from headcount.methods.automatic import AUTO, choose
from headcount.methods.facts import Method
from headcount.running.device import own_device
from headcount.running.measure import Size, forward_flops, longest_input
from headcount.settings.records import RECORD_NAME, Record, library_versions, machine
from headcount.settings.training import is_first_process, world_size
from headcount.settings.writing import alone, naming_a_full_disk, require_empty, writing_directory
from headcount.surgery.cut import remove_heads
from headcount.tasks.protocol import Prepared, Task
from headcount.training.workbench import Workbench
from headcount.units.map import Subset


def run_recipe(
    recipe: Recipe,
    output: Path,
    say: Callable[[str], None] = lambda line: None,
    shared: Path | None = None,
    keep_model: bool = True,
    notes: Mapping[str, object] = MappingProxyType({}),
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
        notes: What else the record should hold.

    Returns:
        The record, as it is written into the output.

    Raises:
        BadRecipe: The output is not empty, the budget does not fit, checkpoints of another recipe, or of other data
            or another model of that name, are in the way, or another process is at the same output.
        BadData: See the task.
        UnsupportedModel: See `anatomy.survey`.
        CorruptCheckpoint: See `headcount.directory.model_files.load`.
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
        return _carry_out(recipe, output, say, shared, keep_model, notes)


def _carry_out(
    recipe: Recipe,
    output: Path,
    say: Callable[[str], None],
    shared: Path | None,
    keep_model: bool,
    notes: Mapping[str, object],
) -> Record:
    task = recipe.make_task()
    checkpoints = checkpoints_of(recipe, output)
    with _clearing(checkpoints):
        prepared = task.prepare(recipe.model, checkpoints)
        require_same_start(checkpoints, prepared)
        model = prepared.model.to(own_device())
        before, heads = _State.of(model), present(model)
        _, keep = recipe.budget.resolve(heads)
    stored = _dtypes(model)
    if half := {torch.float16, torch.bfloat16} & {*stored.values()}:  # too coarse for the steps of an optimiser
        model = model.float()
    bench = _bench(recipe, task, prepared, model, checkpoints, shared)
    say(prepared.summary)
    if half:
        say(f"The model is stored in {half.pop()}: headcount works on it in float32, and writes it as it was stored.")
    recipe, chosen = _chosen(recipe, bench, say)
    sites = len(heads.head_map.sites)
    say(f"{len(heads)} heads in {sites} sites; {recipe.method} keeps {_kept(recipe, keep)}.")
    with _clearing(checkpoints), _noise_of_its_own(), naming_a_full_disk(checkpoints):
        subset = chosen.select(bench, recipe.budget)
    bench.close(subset)
    bench.notes.update(notes)
    for name, tensor in _tensors(bench.model):
        tensor.data = tensor.data.to(stored.get(name, tensor.dtype))
    model = remove_heads(bench.model, subset)
    metrics = task.evaluate(model, prepared.validation, bench.collator, device=next(model.parameters()).device)
    record = _record(recipe, bench, subset, metrics, before, _State.of(model), output.name)
    if is_first_process():  # of several that train together, one writes
        _write(record, model if keep_model else None, bench.model.config, prepared.tokenizer, output)
        shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def _tensors(model: PreTrainedModel) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _dtypes(model: PreTrainedModel) -> dict[str, torch.dtype]:
    """Return the data type of each parameter and buffer. A model in half precision may keep some in float32."""
    return {name: tensor.dtype for name, tensor in _tensors(model)}


@dataclass(frozen=True)
class _State:
    """The figures of a model that the record compares before and after surgery."""

    size: Mapping[str, Any]
    flops: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "_State":
        return cls(Size.of(model).to_json(), _flops(model))


def _bench(
    recipe: Recipe, task: Task, prepared: Prepared, model: PreTrainedModel, checkpoints: Path, shared: Path | None
) -> Workbench:
    """Return the workbench of the method."""
    followed = prepared.development.select(range(min(task.followed, len(prepared.development))))

    return Workbench(
        model=model,
        data=prepared.train,
        collator=prepared.collator,
        settings=recipe.training,
        seed=recipe.seed,
        directory=checkpoints,
        shared=shared,
        trained=prepared.trained,
        development=prepared.development,
        measure=partial(task.follow, dataset=followed, collator=prepared.collator) if followed else None,
        notes=dict(prepared.notes),
        context={"task": recipe.task, **recipe.data},
    )


def _chosen(recipe: Recipe, bench: Workbench, say: Callable[[str], None]) -> tuple[Recipe, Method]:
    """Return the recipe with its method named, and that method. Tell the user about settings without effect."""
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
    chosen = recipe.make_method()
    assert chosen is not None  # it is named by now
    return recipe, chosen


def _record(
    recipe: Recipe,
    bench: Workbench,
    subset: Subset,
    metrics: dict[str, float],
    before: _State,
    after: _State,
    name: str,
) -> Record:
    return Record(
        signature=recipe.signature(len(subset), len(subset.head_map), len(bench.data)),
        recipe=recipe.to_json(),
        subset=subset.to_json(),
        heads=str(subset),
        metrics=metrics,
        size={"before": before.size, "after": after.size},
        costs=bench.costs,
        dynamics=bench.dynamics,
        notes=bench.notes,
        versions=library_versions(),
        name=name,
        sites=subset.head_map.to_json(),
        flops={"before": before.flops, "after": after.flops} if before.flops else {},
        machine=machine(_accelerator()) | {"threads": torch.get_num_threads(), "processes": world_size()},
    )


def _write(
    record: Record,
    model: PreTrainedModel | None,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
) -> None:
    """Write the model with its card, or only its structure, and the record."""
    with writing_directory(output) as aside:
        if model is None:
            config.save_pretrained(aside)  # the structure; its speed can be measured without the weights
        else:
            save(model, aside, tokenizer)
            (aside / "README.md").write_text(model_card(record, type(model)), encoding="utf-8")
        record.write(aside / RECORD_NAME)


def evaluate(source: str, task: Task) -> dict[str, float]:
    """The task's metrics of a trained model, pruned or not, on the validation examples.

    Raises:
        BadRecipe: The model was not trained on the task.
    """
    prepared = task.prepare(source, learns=False)
    if not prepared.trained:
        raise BadRecipe(f"'{source}' was not trained on this task. Train it first: headcount prune.")
    return task.evaluate(prepared.model, prepared.validation, prepared.collator, device=own_device())


def _accelerator() -> str | None:
    """The accelerator's name."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    found = torch.accelerator.current_accelerator()
    return None if found is None else found.type


def _flops(model: PreTrainedModel) -> int:
    """Operations of a forward pass over 128 tokens, or as many as the model reads; 0 if it does not read tokens."""
    try:
        return forward_flops(model, 1, min(128, longest_input(model) or 128))
    except PruningError:
        return 0


@contextmanager
def _clearing(checkpoints: Path) -> Iterator[None]:
    """Remove the checkpoints if the block raises an error that the same call would raise again."""
    try:
        yield
    except PruningError:
        clear(checkpoints)
        raise


@contextmanager
def _noise_of_its_own() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch after the block, because the Trainer seeds them."""
    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)


def _kept(recipe: Recipe, keep: int) -> str:
    if recipe.keep is None:
        return "all"
    return f"{keep}{f' of kind {recipe.sites}' if recipe.sites else ''}"
