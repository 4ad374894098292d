"""A tiny BERT and a plan for it on disk, for the tests of plans; uneven cuts, and whether weights are the same."""

from pathlib import Path
from typing import Any

import torch

from families import tiny
from headcount.anatomy import head_map
from headcount.directory.plan import Plan
from headcount.surgery.cut import remove_heads
from headcount.units.map import Subset

SITE = "bert.encoder.layer.1.attention"


def uneven(model: Any, most: int = 2) -> Subset:
    """No head at the first site, one key/value head's at the second, and so on."""
    whole = head_map(model)
    kept = {site.name: range(site.heads // site.kv_heads * (i % (most + 1))) for i, site in enumerate(whole.sites)}
    return whole.subset(kept)


def same(one: Any, other: Any) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def saved_base(directory: Path) -> Path:
    tiny("bert").save_pretrained(directory)
    return directory


def saved_plan(file: Path) -> Path:
    model = tiny("bert")
    Plan.of(remove_heads(model, uneven(model))).save(file)
    return file
