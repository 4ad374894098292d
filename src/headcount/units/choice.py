"""Units that can be removed alone, and the choice of exactly K heads: by score, or evenly over the sites."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate

from headcount.errors import BadRecipe
from headcount.units.map import Head, Subset

UNITS = ("group", "query")
"""The units of removal under grouped-query attention; see `units_of`."""


def units_of(subset: Subset, unit: str = "group", scores: Sequence[float] | None = None) -> list[tuple[int, ...]]:
    """Return the units that can be removed alone: single heads, or groups under grouped-query attention.

    Args:
        subset: The heads that are present.
        unit: `group` removes a key/value head with all heads that share it; keys, values and the cache shrink.
            `query` removes one head of every key/value head of a site; keys and values stay.
        scores: One score for each head of the subset. With `query`, they rank the heads of a group, and a unit holds
            the r-th best head of each group. None: the index ranks them.

    Returns:
        The flat indices of each unit's heads, site by site.
    """
    score = dict(zip(subset.indices, scores, strict=True)) if scores is not None else {}
    units: list[tuple[int, ...]] = []
    for site in subset.head_map.sites:
        start = subset.head_map.index(Head(site.name, 0))
        groups: dict[int, list[int]] = {}
        for head in subset.at(site.name):
            groups.setdefault(head // site.group, []).append(start + head)
        if unit == "query" and site.group > 1:
            ranked = [sorted(group, key=lambda index: (-score.get(index, 0.0), index)) for group in groups.values()]
            units += zip(*ranked, strict=True)
        else:
            units += map(tuple, groups.values())
    return units


def reachable(sizes: Sequence[int]) -> list[int]:
    """Return all sums of some of these sizes, ascending."""
    sums = reduce(lambda sums, size: sums | sums << size, sizes, 1)  # bit n is set where some of the sizes add up to n
    return [number for number in range(sum(sizes) + 1) if sums >> number & 1]


def top(subset: Subset, scores: Sequence[float], keep: int, unit: str = "group") -> Subset:
    """Return exactly `keep` heads of a subset, those with the highest scores. A tie goes to the first head.

    Units of several heads rank by their mean score. Where sizes differ, the selection skips a unit that would make
    the number impossible to meet.

    Args:
        subset: The heads to choose from.
        scores: One number for each of them, in flat order.
        keep: How many to keep, 0 to the size of the subset.
        unit: See `units_of`.

    Raises:
        BadRecipe: The subset has fewer heads, units do not add up to that number, or a score is not finite.
    """
    if len(scores) != len(subset):
        raise ValueError(f"Got {len(scores)} scores for {len(subset)} heads.")
    if not 0 <= keep <= len(subset):
        raise BadRecipe(f"Cannot keep {keep} of {len(subset)} heads. Give a number from 0 to {len(subset)}.")
    if strange := [head for head, score in zip(subset, scores, strict=True) if not math.isfinite(score)]:
        raise BadRecipe(
            f"The scores of {len(strange)} of {len(subset)} heads are not finite, that of {strange[0].site}:"
            f"{strange[0].index} among them: heads cannot be ranked. If a training came before, it diverged: lower lr."
        )
    score = dict(zip(subset.indices, scores, strict=True))
    units = units_of(subset, unit, scores)
    units.sort(key=lambda unit: (-math.fsum(score[index] for index in unit) / len(unit), unit))
    sizes = [len(unit) for unit in units]
    # after[i] holds the possible sums of the units from i on, as bits.
    after = list(accumulate(reversed(sizes), lambda sums, size: sums | sums << size, initial=1))[::-1]
    if not after[0] >> keep & 1:
        raise BadRecipe(not_reachable(keep, subset, unit, reachable(sizes)))
    chosen: list[int] = []
    for i, heads in enumerate(units):
        missing = keep - len(chosen) - len(heads)
        if missing >= 0 and after[i + 1] >> missing & 1:
            chosen += heads
    return Subset(subset.head_map, tuple(sorted(chosen)))


def spread(subset: Subset, keep: int, unit: str = "group") -> Subset:
    """Return the first heads of every site, equally many at each. The remainder goes to the first sites.

    Raises:
        BadRecipe: See `top`.
    """
    # The r-th unit that a site has ranks before any site's next one.
    ranks: dict[int, int] = {}
    seen: Counter[str] = Counter()
    for heads in units_of(subset, unit):
        site = subset.head_map.head(heads[0]).site
        ranks |= dict.fromkeys(heads, seen[site])
        seen[site] += 1
    return top(subset, [-float(ranks[index]) for index in subset.indices], keep, unit)


def not_reachable(keep: int, subset: Subset, unit: str, possible: list[int]) -> str:
    """Return the message for a number of heads that whole units do not add up to."""
    near = [max(n for n in possible if n < keep), min(n for n in possible if n > keep)]
    how = "groups that share a key/value head" if unit == "group" else "one head of every group at a time"
    other = next(name for name in UNITS if name != unit)
    helps = keep in reachable([len(heads) for heads in units_of(subset, other)])
    return (
        f"Cannot keep exactly {keep} of {len(subset)} heads: under grouped-query attention they go in {how}. "
        f"The nearest budgets are {near[0]} and {near[1]}{f', or set unit to {other!r}' if helps else ''}."
    )
