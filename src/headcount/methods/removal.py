"""Iterative removal: which heads go next."""

from collections.abc import Mapping, Sequence

from headcount.units.choice import reachable, top, units_of
from headcount.units.map import Subset


def remove_lowest(
    left: Subset, scores: Sequence[float], keep: int, step: int, unit: str, max_per_site: int | None = None
) -> Subset:
    """What is left once the `step` heads with the lowest scores are gone, at least a unit, but never more than may go.

    Args:
        left: The heads that compete and are still in.
        scores: One for each of them, in flat order.
        keep: The budget.
        step: How many heads to remove.
        unit: See `budget.units_of`.
        max_per_site: Remove at most this many units of a site. None: any number.
    """
    score = dict(zip(left.indices, scores, strict=True))
    goes = left if max_per_site is None else _lowest_of_sites(left, score, unit, max_per_site)
    sizes = [len(heads) for heads in units_of(goes, unit)]
    numbers = [number for number in reachable(sizes) if 0 < number <= len(left) - keep]
    number = min((number for number in numbers if number >= step), default=max(numbers, default=0))
    stay = top(goes, [score[index] for index in goes.indices], len(goes) - number, unit) | (left - goes)
    # Units of several sizes: the budget may be out of reach from there; then it is met at once.
    met = keep in reachable([len(heads) for heads in units_of(stay, unit)])
    return stay if number and met else top(left, scores, keep, unit)


def _lowest_of_sites(left: Subset, score: Mapping[int, float], unit: str, most: int) -> Subset:
    """The heads of each site's lowest units, so many of each; of equals the last ones, as `top` has it."""
    sites: dict[str, list[tuple[int, ...]]] = {}
    for heads in units_of(left, unit, [score[index] for index in left.indices]):
        sites.setdefault(left.head_map.head(heads[0]).site, []).append(heads)
    chosen: list[int] = []
    for units in sites.values():
        units.sort(key=lambda heads: (-sum(score[index] for index in heads) / len(heads), heads))
        chosen += [index for heads in units[-most:] for index in heads]
    return Subset(left.head_map, tuple(sorted(chosen)))
