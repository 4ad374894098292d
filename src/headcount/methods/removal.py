"""Iterative removal: which heads go next."""

from collections.abc import Sequence

from headcount.budget import reachable, top, units_of
from headcount.heads import Subset


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
    units = units_of(left, unit, scores)
    possible = reachable([len(heads) for heads in units])
    safe: set[int] = set()
    if max_per_site is not None:
        score = dict(zip(left.indices, scores, strict=True))
        by_site: dict[str, list[tuple[int, ...]]] = {}
        for heads in units:
            by_site.setdefault(left.head_map.head(heads[0]).site, []).append(heads)
        for of_site in by_site.values():
            of_site.sort(key=lambda heads: sum(score[index] for index in heads))
            safe.update(index for heads in of_site[max_per_site:] for index in heads)
    allowed = [number for number in possible if max(keep, len(safe)) <= number < len(left)]
    target = max((number for number in allowed if number <= len(left) - step), default=min(allowed, default=keep))
    ranked = [float("inf") if index in safe else value for index, value in zip(left.indices, scores, strict=True)]
    removed = top(left, ranked, target, unit)
    sizes = [len(heads) for heads in units_of(removed, unit)]
    # Units of several sizes: the budget may be out of reach from there; then it is met at once.
    return removed if keep in reachable(sizes) else top(left, scores, keep, unit)
