"""The published methods: from a model and a budget to a subset, and the weights that go with it. One file each.

A method is a frozen dataclass whose fields are its hyper-parameters, with the paper's defaults. Other packages add
theirs through the entry point `headcount.methods`.
"""

from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, runtime_checkable

from headcount.budget import Budget
from headcount.errors import BadRecipe
from headcount.heads import Subset
from headcount.methods.dsp_joint import DSPJoint
from headcount.methods.michel import Michel
from headcount.methods.unpruned import Unpruned
from headcount.training import Workbench


@runtime_checkable
class Method(Protocol):
    """What every method is."""

    paradigm: ClassVar[str]
    """`joint`: weights and subset are learned together. `pipelined`: a trained model first, then the subset."""

    def select(self, bench: Workbench, budget: Budget) -> Subset:
        """Train, score and choose. Leaves the trained model on the workbench; gives all heads that stay."""
        ...


METHODS: dict[str, type[Any]] = {
    "dsp-joint": DSPJoint,
    "michel": Michel,
    "unpruned": Unpruned,
}
"""Name -> method. The command line, the sweep, the contract test and the docs page read it."""


def method(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """The method of that name with these options in place of the paper's values.

    Raises:
        BadRecipe: No method, or no option of the method, has that name, or an option has the wrong type.
    """
    known: dict[str, Any] = {**{found.name: found for found in entry_points(group="headcount.methods")}, **METHODS}
    if name not in known:
        raise BadRecipe(f"Unknown method '{name}'. Valid methods: {', '.join(sorted(known))}.")
    kind = known[name] if name in METHODS else known[name].load()
    valid = {field.name: field for field in fields(kind)}
    for option, value in (options or {}).items():
        if option not in valid:
            raise BadRecipe(f"Method '{name}' has no option '{option}'. Valid options: {', '.join(valid) or 'none'}.")
        _check_type(name, option, value, valid[option].type)
    return kind(**(options or {}))


def _check_type(name: str, option: str, value: Any, kind: Any) -> None:
    allowed = kind | int if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and allowed is not bool):
        shown = getattr(kind, "__name__", str(kind))
        raise BadRecipe(f"Option '{option}' of method '{name}' is a {shown}, got {value!r}.")
