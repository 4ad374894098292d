"""The choice of the heads that an iteration removes."""

from collections.abc import Mapping, Sequence

from headcount.units.choice import reachable, top, units_of
from headcount.units.map import Subset


def remove_lowest(
    left: Subset, scores: Sequence[float], keep: int, step: int, unit: str, max_per_site: int | None = None
) -> Subset:
    """Remove the `step` heads with the lowest scores: at least one unit, but never below the budget.

    Args:
        left: The competing heads that remain.
        scores: The score of each of them, in flat order.
        keep: The budget.
        step: How many heads to remove.
        unit: See `units.choice.units_of`.
        max_per_site: Number of units to remove from a site, at most. None: no limit.
    """
    score = dict(zip(left.indices, scores, strict=True))
    goes = left if max_per_site is None else _lowest_of_sites(left, score, unit, max_per_site)
    sizes = [len(heads) for heads in units_of(goes, unit)]
    numbers = [number for number in reachable(sizes) if 0 < number <= len(left) - keep]
    number = min((number for number in numbers if number >= step), default=max(numbers, default=0))
    stay = top(goes, [score[index] for index in goes.indices], len(goes) - number, unit) | (left - goes)
    # With units of several sizes, the remaining heads may not reach the budget. Then choose the budget at once.
    met = keep in reachable([len(heads) for heads in units_of(stay, unit)])
    return stay if number and met else top(left, scores, keep, unit)


def _lowest_of_sites(left: Subset, score: Mapping[int, float], unit: str, most: int) -> Subset:
    """Return the heads of each site's `most` lowest units. Ties take the last units, as in `top`."""
    sites: dict[str, list[tuple[int, ...]]] = {}
    for heads in units_of(left, unit, [score[index] for index in left.indices]):
        sites.setdefault(left.head_map.head(heads[0]).site, []).append(heads)
    chosen: list[int] = []
    for units in sites.values():
        units.sort(key=lambda heads: (-sum(score[index] for index in heads) / len(heads), heads))
        chosen += [index for heads in units[-most:] for index in heads]
    return Subset(left.head_map, tuple(sorted(chosen)))
