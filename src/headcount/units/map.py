"""Sites, heads, head maps and subsets of heads, as plain values without torch."""

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

from headcount.errors import BadRecipe

KINDS = ("encoder", "decoder", "cross")
"""The kinds of attention, in the order of the papers."""

STRUCTURE_NAME = "headcount"
"""The `quant_method` of the entry in a model's configuration that lists the kept heads of each site."""
STRUCTURE_VERSION = 1
"""The version of that entry's format."""


@dataclass(frozen=True, slots=True)
class Head:
    """One attention head: the name of its site and its index there, in the original numbering."""

    site: str
    index: int


@dataclass(frozen=True, slots=True)
class Site:
    """One attention sublayer of a model, as it was built. Removing heads does not change it.

    Attributes:
        name: Path of the attention module inside the model, as in `model.get_submodule(name)`.
        kind: `encoder`, `decoder` (self-attention of a decoder) or `cross`.
        layer: Index of the layer, from 0.
        heads: Number of (query) heads.
        kv_heads: Number of key/value heads. It equals `heads` except under grouped-query attention.
        head_size: Width of one head. After surgery it is not `hidden / heads`, so it is stored.
    """

    name: str
    kind: str
    layer: int
    heads: int
    kv_heads: int
    head_size: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Site '{self.name}' has kind '{self.kind}'. Valid kinds: {', '.join(KINDS)}.")
        if self.heads <= 0 or self.kv_heads <= 0 or self.heads % self.kv_heads:
            raise ValueError(
                f"Site '{self.name}' cannot share {self.kv_heads} key/value heads among {self.heads} heads."
            )

    @property
    def group(self) -> int:
        """Return how many heads share a key/value head: heads `j * group` to `(j + 1) * group - 1` share the j-th."""
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class HeadMap:
    """All sites of a model, in order. A flat index numbers its H heads, site after site."""

    sites: tuple[Site, ...]

    def __post_init__(self) -> None:
        if len(self._by_name) != len(self.sites):
            raise ValueError("Two sites of a head map have the same name.")

    @cached_property
    def _by_name(self) -> dict[str, Site]:
        return {site.name: site for site in self.sites}

    @cached_property
    def _offsets(self) -> dict[str, int]:
        starts = accumulate((site.heads for site in self.sites), initial=0)
        return {site.name: start for site, start in zip(self.sites, starts, strict=False)}

    def __len__(self) -> int:
        """Return the number of heads, H."""
        return sum(site.heads for site in self.sites)

    def __getitem__(self, name: str) -> Site:
        """Return the site of that name.

        Raises:
            KeyError: No site has that name; the message lists those there are.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(f"No site '{name}'. Sites: {', '.join(self._by_name)}.") from None

    def index(self, head: Head) -> int:
        """Return the flat index of a head, in [0, H).

        Raises:
            KeyError: There is no such site.
            IndexError: The site has no such head.
        """
        site = self[head.site]
        if not 0 <= head.index < site.heads:
            raise IndexError(f"Site '{site.name}' has heads 0 to {site.heads - 1}, got {head.index}.")
        return self._offsets[site.name] + head.index

    def head(self, index: int) -> Head:
        """Return the head with that flat index.

        Raises:
            IndexError: There is none.
        """
        for site in self.sites:
            start = self._offsets[site.name]
            if start <= index < start + site.heads:
                return Head(site.name, index - start)
        raise IndexError(f"This head map has heads 0 to {len(self) - 1}, got {index}.")

    @cached_property
    def all(self) -> "Subset":
        """Return the subset of all H heads."""
        return Subset(self, tuple(range(len(self))))

    def of_kind(self, kind: str) -> "Subset":
        """Return all heads of one kind of attention."""
        _require_kind(kind)
        return self.subset({site.name: range(site.heads) for site in self.sites if site.kind == kind})

    def subset(self, kept: Mapping[str, object]) -> "Subset":
        """Return the subset of these heads. A site that is not named keeps none.

        Args:
            kept: The heads of each site, as whole numbers of Python, NumPy or torch.

        Raises:
            BadRecipe: The heads of a site are not whole numbers.
            KeyError: There is no such site.
            IndexError: A site has no such head.
        """
        chosen = {self.index(Head(name, i)) for name, heads in kept.items() for i in _whole(name, heads)}
        return Subset(self, tuple(sorted(chosen)))

    def to_json(self) -> list[dict[str, object]]:
        """Return the sites as plain data, for `from_json`."""
        return [asdict(site) for site in self.sites]

    @classmethod
    def from_json(cls, sites: Iterable[Mapping[str, Any]]) -> "HeadMap":
        """Return the head map that `to_json` wrote."""
        return cls(tuple(Site(**site) for site in sites))


@dataclass(frozen=True)
class Subset:
    """An immutable set of kept heads, in the original numbering.

    Attributes:
        head_map: The head map of the model.
        indices: The flat indices of the heads, ascending, without repetition.
    """

    head_map: HeadMap
    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.indices) != sorted(set(self.indices)):
            raise ValueError(f"Flat indices of a subset must ascend without repetition, got {self.indices}.")
        if self.indices and not (self.indices[0] >= 0 and self.indices[-1] < len(self.head_map)):
            raise IndexError(f"This head map has heads 0 to {len(self.head_map) - 1}, got {self.indices}.")

    @cached_property
    def _members(self) -> frozenset[int]:
        return frozenset(self.indices)

    def __len__(self) -> int:
        """Return K, the number of kept heads."""
        return len(self.indices)

    def __iter__(self) -> Iterator[Head]:
        """Iterate over the kept heads, in flat order."""
        return (self.head_map.head(index) for index in self.indices)

    def __contains__(self, head: Head) -> bool:
        try:
            return self.head_map.index(head) in self._members
        except (IndexError, KeyError):  # the model has no such head, so the subset has none
            return False

    def _with(self, indices: Iterable[int]) -> "Subset":
        return Subset(self.head_map, tuple(sorted(indices)))

    def _other(self, other: "Subset") -> frozenset[int]:
        if other.head_map != self.head_map:
            raise ValueError("Two subsets of different head maps cannot be combined.")
        return other._members

    def __and__(self, other: "Subset") -> "Subset":
        return self._with(self._members & self._other(other))

    def __or__(self, other: "Subset") -> "Subset":
        return self._with(self._members | self._other(other))

    def __sub__(self, other: "Subset") -> "Subset":
        return self._with(self._members - self._other(other))

    def __invert__(self) -> "Subset":
        return self.head_map.all - self

    def __le__(self, other: "Subset") -> bool:
        return self._members <= self._other(other)

    def at(self, site: str) -> list[int]:
        """Return the heads kept at a site, ascending. The list can index a tensor on any device.

        Raises:
            KeyError: There is no such site.
        """
        start = self.head_map.index(Head(site, 0))
        return [i - start for i in self.indices if start <= i < start + self.head_map[site].heads]

    def counts(self, kind: str | None = None) -> list[int]:
        """Return the number of heads kept at each site, of one kind or of all.

        Raises:
            BadRecipe: There is no such kind.
        """
        if kind is not None:
            _require_kind(kind)
        return [len(self.at(site.name)) for site in self.head_map.sites if kind in (None, site.kind)]

    def __str__(self) -> str:
        """Return the heads kept per layer, as the papers print them: `5 1 3 1 5 6`, one such list for each kind."""
        kinds = [kind for kind in KINDS if any(site.kind == kind for site in self.head_map.sites)]
        runs = {kind: " ".join(map(str, self.counts(kind))) for kind in kinds}
        return runs[kinds[0]] if len(kinds) == 1 else " | ".join(f"{kind} {run}" for kind, run in runs.items())

    def to_json(self) -> dict[str, list[int]]:
        """Return the kept heads of every site as plain data, for `HeadMap.subset`."""
        return {site.name: self.at(site.name) for site in self.head_map.sites}


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise BadRecipe(f"Got kind '{kind}'. Valid kinds: {', '.join(KINDS)}.")


def _whole(site: str, heads: object) -> list[int]:
    """Return indices as Python's own integers, which JSON can hold."""
    try:
        listed: list[Any] = list(cast(Iterable[object], heads))
        if any(str(getattr(each, "dtype", type(each).__name__)).endswith(("bool", "bool_")) for each in listed):
            raise BadRecipe(f"Got a mask for site '{site}'. Give the indices of the heads to keep, as [0, 3].")
        return [operator.index(each) for each in listed]
    except TypeError:
        raise BadRecipe(f"Heads of site '{site}' are whole numbers, as [0, 3]; got {heads!r}.") from None
