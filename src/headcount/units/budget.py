"""Budgets: how many heads to keep, as a number or as a share."""

from dataclasses import dataclass

from headcount.errors import BadRecipe
from headcount.units.choice import UNITS, not_reachable, reachable, units_of
from headcount.units.map import KINDS, HeadMap, Subset


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
            raise BadRecipe(not_reachable(keep, candidates, self.unit, possible))
        return candidates, keep


def _kinds_of(head_map: HeadMap) -> list[str]:
    return [kind for kind in KINDS if any(site.kind == kind for site in head_map.sites)]
