"""Budgets of heads, the units that can be removed alone, and the top K heads, without torch."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

from headcount.errors import BadRecipe
from headcount.units.map import KINDS, Head, HeadMap, Subset

UNITS = ("group", "query")
"""The units of removal under grouped-query attention; see `units_of`."""


@dataclass(frozen=True)
class Budget:
    """The number or the fraction of heads to keep.

    Attributes:
        keep: A whole number of heads, or a float in [0, 1], a fraction of the heads that compete.
        sites: The kind of attention whose heads compete. All heads of other kinds stay. None: all heads compete.
        unit: The unit of removal under grouped-query attention; see `units_of`.
    """

    keep: int | float
    sites: str | None = None
    unit: str = "group"

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, int | float):
            raise BadRecipe(f"A budget is a number of heads or a fraction, got {self.keep!r}.")
        if isinstance(self.keep, float) and not 0 <= self.keep <= 1:
            raise BadRecipe(
                f"Cannot keep the fraction {self.keep} of the heads. Give a fraction in [0, 1] or a number."
            )
        if self.sites is not None and self.sites not in KINDS:
            raise BadRecipe(f"Got a budget over '{self.sites}'. Valid kinds: {', '.join(KINDS)}.")
        if self.unit not in UNITS:
            raise BadRecipe(f"Got unit '{self.unit}'. Valid units: {', '.join(UNITS)}.")

    @classmethod
    def parse(cls, text: str, sites: str | None = None, unit: str = "group") -> "Budget":
        """Read a budget that a person typed: `12`, `0.25` or `25%`."""
        try:
            if text.endswith("%"):
                return cls(float(text[:-1]) / 100, sites, unit)
            return cls(float(text) if any(mark in text for mark in ".eE") else int(text), sites, unit)
        except ValueError:
            raise BadRecipe(
                f"Cannot read the budget '{text}'. Give a number of heads (12) or a share (0.25, 25%)."
            ) from None

    def resolve(self, present: Subset) -> tuple[Subset, int]:
        """Return the heads that compete and how many of them to keep, for a model that has the heads `present`.

        A fraction refers to all heads the model was built with. Pruning twice to one half thus leaves one half.
        The result is the nearest number of heads that whole units can add up to.

        Raises:
            BadRecipe: The model has no head of that kind, fewer heads than are to be kept, or units that do not add up
                to that number; the message says which numbers they do add up to.
        """
        scope = present.head_map.all if self.sites is None else present.head_map.of_kind(self.sites)
        candidates = present & scope
        where = "" if self.sites is None else f"{self.sites} "
        if not scope:
            raise BadRecipe(f"This model has no {where}heads. It has: {', '.join(_kinds_of(present.head_map))}.")
        wanted = self.keep if isinstance(self.keep, int) else self.keep * len(scope)
        possible = reachable([len(unit) for unit in units_of(candidates, self.unit)])
        if isinstance(self.keep, float) and wanted <= len(candidates) + 0.5:
            return candidates, min(possible, key=lambda number: (abs(number - wanted), -number))
        keep = round(wanted)
        if not 0 <= keep <= len(candidates):
            gone = (
                "" if len(candidates) == len(scope) else f" ({len(scope) - len(candidates)} of {len(scope)} are gone)"
            )
            raise BadRecipe(
                f"Cannot keep {keep} of {len(candidates)} {where}heads{gone}. "
                f"Give a number from 0 to {len(candidates)}, or a fraction in [0, 1]."
            )
        if keep not in possible:
            raise BadRecipe(_not_reachable(keep, candidates, self.unit, possible))
        return candidates, keep


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
        raise BadRecipe(_not_reachable(keep, subset, unit, reachable(sizes)))
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


def _not_reachable(keep: int, subset: Subset, unit: str, possible: list[int]) -> str:
    near = [max(n for n in possible if n < keep), min(n for n in possible if n > keep)]
    how = "groups that share a key/value head" if unit == "group" else "one head of every group at a time"
    other = next(name for name in UNITS if name != unit)
    helps = keep in reachable([len(heads) for heads in units_of(subset, other)])
    return (
        f"Cannot keep exactly {keep} of {len(subset)} heads: under grouped-query attention they go in {how}. "
        f"The nearest budgets are {near[0]} and {near[1]}{f', or set unit to {other!r}' if helps else ''}."
    )


def _kinds_of(head_map: HeadMap) -> list[str]:
    return [kind for kind in KINDS if any(site.kind == kind for site in head_map.sites)]
