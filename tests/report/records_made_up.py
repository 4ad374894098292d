"""Records as runs might give them, made up: of any method, budget, seed and task, with all that a record can hold."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from headcount.settings.records import Record

SITES = {
    "classification": [("encoder", layer) for layer in range(6)],
    "translation": [(kind, layer) for kind in ("encoder", "decoder", "cross") for layer in range(2)],
}
HEADS = {"classification": 12, "translation": 6}
METRICS = {"classification": ("accuracy", 0.9, "macro_f1"), "translation": ("bleu", 34.0, "chrf")}
STRENGTH = {"dsp-joint": 0.05, "voita": 0.12, "ste": 0.15, "dsp-pipelined": 0.3, "lottery": 0.2, "michel": 0.5}


def made_up(
    task: str = "classification",
    methods: Sequence[str] = tuple(STRENGTH),
    budgets: Sequence[int] = (3, 6, 9, 12, 18),
    seeds: Sequence[int] = (0, 1, 2),
    looks: int = 10,
    **changes: Any,
) -> list[Record]:
    """An unpruned run and one of each method, budget and seed; `changes` are of every record's fields."""
    grid = [(method, keep, seed) for method in methods for keep in budgets for seed in seeds]
    return [record(task, *run, looks=looks, **changes) for run in [("unpruned", None, 0), *grid]]


def record(
    task: str = "classification",
    method: str = "dsp-joint",
    keep: int | None = 12,
    seed: int = 0,
    looks: int = 10,
    **changes: Any,
) -> Record:
    """One run's record."""
    sites = [_site(kind, layer, HEADS[task]) for kind, layer in SITES[task]]
    total = len(sites) * HEADS[task]
    count = total if keep is None else keep
    chosen = sorted((index * 7 + seed) % total for index in range(count))
    subset = {
        site["name"]: [i - start for i in chosen if start <= i < start + site["heads"]] for start, site in _at(sites)
    }
    share = 1 - count / total
    name, best, other = METRICS[task]
    gone = total - count
    quality = best * (1 - STRENGTH.get(method, 0.2) * share**4) - 0.02 * seed * share**2 * best
    speed = 1 + (0.6 - 0.2 * STRENGTH.get(method, 0.2)) * share - 0.01 * seed * share
    figures: dict[str, Any] = {
        "signature": f"method:{method}|keep:{count}/{total}|task:{task}|seed:{seed}|v:0.1.0",
        "recipe": {
            "model": "encoders/small", "method": method, "keep": keep, "task": task, "sites": None, "unit": "group",
            "data": {"train": "sst2/train.tsv.gz", "validation": "sst2/validation.tsv.gz"}, "options": {},
            "training": {"epochs": 1.0, "lr": 1e-4}, "seed": seed,
        },
        "subset": subset,
        "heads": " ".join(str(len(kept)) for kept in subset.values()),
        "metrics": {name: quality, other: quality * 0.99},
        "size": {
            "before": {"parameters": 22_713_986, "bytes": 90_855_944},
            "after": {"parameters": 22_713_986 - 49_248 * gone, "bytes": 90_855_944 - 196_992 * gone},
        },
        "costs": {
            "training": {"steps": 375, "seconds": 470.0 + seed, "peak_memory": 1_788_116_992},
            **({"selection": {"steps": 50, "seconds": 60.0, "peak_memory": 10**9}} if method == "lottery" else {}),
        },
        "dynamics": list(_dynamics(method, looks, name, quality, count)),
        "notes": {"voita": _search(count)} if method == "voita" else {},
        "versions": {"headcount": "0.1.0", "torch": "2.13.0"},
        "name": f"{method}-{count}-{seed}",
        "sites": sites,
        "flops": {"before": 10**9, "after": int(1e9 / (1 + 0.7 * share))},
        "speed": {
            "speedup": speed, "speedup_low": speed - 0.02, "speedup_high": speed + 0.02, "milliseconds": 80 / speed,
            "predicted_speedup": 1 + 0.7 * share, "batch_size": 8, "length": 128, "threads": 1, "device": "cpu",
            "signature": "batch:8|length:128|threads:1|v:0.1.0",
        },
        "machine": {"processor": "A processor", "cores": 2, "system": "Linux"},
    }  # fmt: skip
    return Record(**{**figures, **changes})


def failed(error: str = "RuntimeError: out of memory", **changes: Any) -> Record:
    """The record of a run that failed."""
    nothing: dict[str, Any] = {"metrics": {}, "subset": {}, "heads": "", "size": {}, "speed": {}, "flops": {}}
    return record(error=error, name="fails", dynamics=[], costs={}, **nothing, **changes)


def _site(kind: str, layer: int, heads: int) -> dict[str, Any]:
    name = f"model.{kind}.layers.{layer}.attention"
    return {"name": name, "kind": kind, "layer": layer, "heads": heads, "kv_heads": heads, "head_size": 32}


def _at(sites: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    start = 0
    for site in sites:
        yield start, site
        start += site["heads"]


def _dynamics(method: str, looks: int, metric: str, quality: float, count: int) -> Iterator[dict[str, Any]]:
    for number in range(1, looks + 1):
        share = number / looks
        look: dict[str, Any] = {"stage": "training", "step": int(375 * share), "loss": 0.7 * math.exp(-2 * share)}
        look["development"] = {metric: quality * (0.7 + 0.3 * share)}
        if method != "unpruned":
            look |= {"kept": list(range(count)), "heads": "2 2 2", "finally_kept": min(1.0, 0.4 + share)}
        if method.startswith("dsp"):
            look |= {"temperature": 1000 * 1e-11**share, "entropy": 0.69 * (1 - share)}
        yield look


def _search(count: int) -> dict[str, Any]:
    path = [{"lambda": 0.0015, "open": count + 9}, {"lambda": 0.006, "open": count + 1}, {"lambda": 0.024, "open": 2}]
    return {"lambda": 0.006, "open": count + 1, "adjusted": 1, "path": path}
