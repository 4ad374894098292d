"""A grid of recipes: any field of a recipe is a list of values, and every combination is a run."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import PurePath
from typing import Any

from headcount.errors import BadRecipe
from headcount.experiments.recipe import Recipe, natural_list
from headcount.methods import ignores_budget
from headcount.settings.toml import Document

_ALWAYS = (("method",), ("keep",), ("seed",))
"""The fields that are in every run's name, so that a grid that grows later finds its runs again."""
_OF_A_BUDGET = ("keep", "sites", "unit")
LONGEST_NAME = 180
"""In bytes, of the 255 that file systems allow: names of directories and files beside a run's are longer."""


@dataclass(frozen=True)
class Run:
    """One run of a grid.

    Attributes:
        name: Of its directory.
        recipe: What it does.
    """

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Grid:
    """What a sweep file states.

    Its tables `[[grid]]` are grids of their own; each takes from the rest of the file what it does not state itself.

    Attributes:
        document: The file.
        changes: Values in place of the file's, by dotted name: `{"data.train": "other.tsv"}`.
    """

    document: Document
    changes: Mapping[str, Any]

    @property
    def count(self) -> int:
        """How many runs there are, before those that are the same are counted once; none is made for it."""
        return sum(prod(len(values) for _, values in axes) for _, _, axes in self._entries())

    def runs(self) -> list[Run]:
        """Every run. A method that ignores the budget runs once, not once a budget.

        Raises:
            BadRecipe: A recipe is not valid, a list is empty, or two runs have one name; with its place.
        """
        found: dict[str, tuple[Run, str]] = {}
        named = list(self._recipes())
        varying = _varying([(prefix, recipe) for recipe, prefix, _ in named])
        for recipe, prefix, place in named:
            run = Run(_name(recipe, prefix, varying[prefix, recipe.method]), recipe)
            if run.name in found and found[run.name][0] != run:
                raise BadRecipe(
                    f"{place}: two runs have the name '{run.name}'; the other is of {found[run.name][1]}. "
                    "Put them into [[grid]] tables of their own, each with a 'name'."
                )
            found.setdefault(run.name, (run, place))
        if not found:
            raise BadRecipe(f"{self.document.name}: a grid of no runs. Give 'model', 'method', 'keep' and [data].")
        return [run for run, _ in found.values()]

    def _recipes(self) -> Iterator[tuple[Recipe, str, str]]:
        for plain, own, axes in self._entries():
            prefix = plain.pop("name", "")
            if not isinstance(prefix, str):
                raise BadRecipe(f"{own}: Got name {prefix!r}. Give text.")
            for path, values in axes:
                if not values:
                    raise BadRecipe(
                        f"{self._place(own, path)}: '{'.'.join(path)}' is an empty list: a grid of no runs."
                    )
            for point in product(*(values for _, values in axes)):
                chosen = _with(plain, dict(zip((path for path, _ in axes), point, strict=True)))
                if ignores_budget(chosen.get("method")):
                    chosen = {name: value for name, value in chosen.items() if name not in _OF_A_BUDGET}
                yield Recipe.from_plain(chosen, lambda *path, own=own: self._place(own, path)), prefix, own

    def _entries(self) -> list[tuple[dict[str, Any], str, list[tuple[tuple[str, ...], list[Any]]]]]:
        """Each grid: its plain data, where it stands, and its fields that are lists, with their values."""
        base = {name: value for name, value in self.document.data.items() if name != "grid"}
        tables = self.document.data.get("grid", [{}])
        if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
            raise BadRecipe(f"{self.document.name}: 'grid' is made of tables. Write [[grid]].")
        changes = {tuple(name.split(".")): value for name, value in self.changes.items()}
        entries = []
        for number, table in enumerate(tables, start=1):
            plain = _with(_merged(base, table), changes)
            own = f"{self.document.name}, [[grid]] {number}" if "grid" in self.document.data else self.document.name
            entries.append((plain, own, list(_axes(plain, plain))))
        return entries

    def _place(self, own: str, path: tuple[str, ...]) -> str:
        """Where a value of a grid stands: in the file, or in the place of what the file says."""
        if (name := ".".join(path)) in self.changes:
            return f"--set {name}"
        after = f" (after --set {', '.join(self.changes)})" if self.changes and not path else ""
        return f"{own}{after}"


def having(runs: Sequence[Run], parts: Sequence[str]) -> list[Run]:
    """The runs whose names have all of these parts, whole between hyphens: `k3` is no part of `ste-k36-s0`.

    Raises:
        BadRecipe: There is none.
    """
    found = [run for run in runs if all(f"-{part}-" in f"-{run.name}-" for part in parts)]
    if not found:
        shown = ", ".join(run.name for run in runs[:8])
        more = f" and {len(runs) - 8} more, which --dry-run lists without --only" if len(runs) > 8 else ""
        raise BadRecipe(f"No run has {' and '.join(parts)} in its name, whole between hyphens. Runs: {shown}{more}.")
    return found


def read_recipe(document: Document, changes: Mapping[str, Any]) -> Recipe:
    """The one recipe that a file states.

    Raises:
        BadRecipe: It is not valid, or a grid; with its place.
    """
    grid = Grid(document, changes)
    if "grid" in document.data or grid.count != 1:
        raise BadRecipe(f"{document.name}: a grid of {grid.count:,} runs. Run it by: headcount sweep {document.name}.")
    return grid.runs()[0].recipe


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
        merged[name] = _merged(base[name], value) if both else value
    return merged


def _with(plain: Mapping[str, Any], values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """A copy with these values at these places."""
    copy = dict(plain)
    for path, value in values.items():
        for name in reversed(path):
            value = {name: value}
        copy = _merged(copy, value)
    return copy


def _axes(
    data: Mapping[str, Any], plain: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    for name, value in data.items():
        path = (*above, name)
        if isinstance(value, Mapping):
            yield from _axes(value, plain, path)
        elif isinstance(value, list) and not natural_list(plain, path, value):
            yield path, value


def _flat(recipe: Recipe) -> dict[tuple[str, ...], Any]:
    def leaves(data: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, value in data.items():
            if isinstance(value, Mapping):
                yield from leaves(value, (*above, name))
            else:
                yield (*above, name), value

    return dict(leaves(recipe.to_json(), ()))


def _varying(recipes: list[tuple[str, Recipe]]) -> dict[tuple[str, str], list[tuple[str, ...]]]:
    """The fields in which runs of one grid's name and method differ, in a recipe's order, beyond those of all names."""
    found: dict[tuple[str, str], dict[tuple[str, ...], None]] = {}
    first: dict[tuple[str, str], dict[tuple[str, ...], Any]] = {}
    for prefix, recipe in recipes:
        key, flat = (prefix, recipe.method), _flat(recipe)
        differing, other = found.setdefault(key, {}), first.setdefault(key, flat)
        for path in [*flat, *other]:
            if flat.get(path) != other.get(path) and path not in _ALWAYS:
                differing.setdefault(path)
    return {key: list(paths) for key, paths in found.items()}


def _name(recipe: Recipe, prefix: str, varying: list[tuple[str, ...]]) -> str:
    """A run's name: method, budget, seed, and what else varies."""
    flat = _flat(recipe)
    parts = [prefix, recipe.method, "" if recipe.keep is None else f"k{recipe.keep}", f"s{recipe.seed}"]
    for path in varying:
        value = flat.get(path)
        if value is not None:
            shown = "/".join(PurePath(value).parts[-2:]) if isinstance(value, str) else value
            parts.append(f"{path[-1]}={shown}")
    whole = "-".join(part for part in parts if part)
    # Hidden directories are those that are not whole yet.
    name = re.sub(r"[^\w.=+-]+", "_", whole).lstrip(".").encode()
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 9] + f"-{hashlib.sha256(whole.encode()).hexdigest()[:8]}".encode()
    return name.decode(errors="ignore")
