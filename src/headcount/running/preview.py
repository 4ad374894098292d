"""How much faster fewer heads would be, before anyone trains: a model's shape with random weights, in each runtime."""

import copy
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from headcount.anatomy import head_map
from headcount.directory.model_files import copy_beside, skeleton
from headcount.errors import BadRecipe, ExportFailed, UnsupportedModel
from headcount.running.export import EXPORTERS, export_model
from headcount.running.libraries import library
from headcount.running.measure import Comparison, compare
from headcount.running.runtimes import PyTorch, Runner, open_model
from headcount.surgery.cut import remove_heads
from headcount.units.budget import Budget
from headcount.units.choice import spread
from headcount.units.map import HeadMap, Subset

FORMAT_OF = {"onnxruntime": "onnx", "openvino": "openvino", "ctranslate2": "ctranslate2"}
"""Runtime -> the format that is exported for it; PyTorch needs none."""
RUNTIME_NAMES = ("pytorch", *FORMAT_OF)


def compare_shapes(
    source: str | Path,
    keep: Sequence[str],
    *,
    runtimes: Sequence[str] = (),
    sites: str | None = None,
    threads: int = 1,
    say: Callable[[str], None] = lambda line: None,
    **conditions: int,
) -> list[Comparison]:
    """Time a model of this configuration, with random weights, next to itself with fewer heads; one runtime at a time.

    Args:
        source: A model directory or a Hub name; only its configuration is read, as the model was built.
        keep: What to keep, once for each smaller model: a budget (`12`, `25%`), which is spread evenly over the sites,
            or the heads of each site (`5 1 3 1 5 6`).
        runtimes: Of `RUNTIME_NAMES`. None: PyTorch, and all others that are installed and hold such a model.
        sites: The kind of attention that budgets are over. None: all.
        threads: CPU threads.
        say: Told in a line what goes on.
        conditions: Of `compare`: batch_size, length, rounds, warmup, seed.

    Raises:
        BadRecipe: A budget or distribution does not fit, or a runtime that was asked for is unknown or not installed.
        UnsupportedModel: See `anatomy.survey`; or a runtime that was asked for cannot hold the model.
    """
    if unknown := [name for name in runtimes if name not in RUNTIME_NAMES]:
        raise BadRecipe(f"Unknown runtime '{unknown[0]}'. Valid runtimes: {', '.join(RUNTIME_NAMES)}.")
    outline = skeleton(source)
    whole = head_map(outline)
    subsets = {f"{len(whole)} of {len(whole)}": whole.all}
    for text in keep:
        subset = subset_of(text, whole, sites)
        subsets[f"{len(subset)} of {len(whole)}: {subset}"] = subset
    comparisons = []
    for runtime in runtimes or RUNTIME_NAMES:
        with tempfile.TemporaryDirectory() as directory:
            try:
                models = {
                    name: _open(source, outline, subset, runtime, Path(directory) / str(number), threads)
                    for number, (name, subset) in enumerate(subsets.items())
                }
            except (BadRecipe, UnsupportedModel, ExportFailed) as error:
                if runtimes:
                    raise
                say(f"{runtime} is left out: {error}")
                continue
            comparisons.append(compare(models, threads=threads, **conditions))
    return comparisons


def subset_of(text: str, whole: HeadMap, sites: str | None = None) -> Subset:
    """The heads that stay by a budget, spread evenly over the sites, or by a number for each site, kind by kind.

    Raises:
        BadRecipe: The text is neither, or does not fit the model.
    """
    if len(text.split()) == 1:
        candidates, keep = Budget.parse(text, sites).resolve(whole.all)
        return spread(candidates, keep) | (whole.all - candidates)
    kinds = {site.kind for site in whole.sites}
    runs = [re.fullmatch(r"\s*([a-z]*)\s*((?:\d+\s*)+)", run) for run in text.split("|")]
    numbers = {run[1] or next(iter(kinds)): [int(n) for n in run[2].split()] for run in runs if run}
    counts = {kind: [site for site in whole.sites if site.kind == kind] for kind in kinds}
    alike = {kind: len(found) for kind, found in numbers.items()} == {kind: len(of) for kind, of in counts.items()}
    if (
        None in runs
        or len(numbers) < len(runs)
        or not alike
        or (len(kinds) > 1 and any(run and not run[1] for run in runs))
    ):
        raise BadRecipe(
            f"Cannot read the distribution '{text}'. Give a number of heads for each of the {len(whole.sites)} sites, "
            f"as in '{whole.all}', or a budget (12, 25%)."
        )
    kept: dict[str, range] = {}
    for kind, of in counts.items():
        for site, number in zip(of, numbers[kind], strict=True):
            if number > site.heads or number % site.group:
                groups = f", which go in groups of {site.group}" if site.group > 1 else ""
                raise BadRecipe(f"Cannot keep {number} of {site.heads} heads at '{site.name}'{groups}.")
            kept[site.name] = range(number)
    return whole.subset(kept)


def _open(
    source: str | Path, outline: PreTrainedModel, subset: Subset, runtime: str, directory: Path, threads: int
) -> Runner:
    """The model with this subset and random weights, open in this runtime."""
    if runtime != "pytorch":
        for name in EXPORTERS[FORMAT_OF[runtime]].libraries:
            library(name, FORMAT_OF[runtime])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = copy.deepcopy(outline.config)  # surgery writes the structure into it
        config.quantization_config = None
        model: nn.Module = type(outline)(config).eval()
    remove_heads(model, subset, check=False)
    if runtime == "pytorch":
        return PyTorch(model, threads)
    saved: Any = model
    saved.save_pretrained(directory / "model")
    copy_beside(source, directory / "model")  # CTranslate2 holds no model without its vocabulary
    export_model(directory / "model", directory / "export", FORMAT_OF[runtime])
    return open_model(directory / "export", threads)
