"""The registry of pruning methods. A method turns a model and a budget into a subset and its weights.

A method is a frozen dataclass whose fields are its hyper-parameters, with the paper's defaults. Each is in a
file of its own. Other packages add methods through the entry point `headcount.methods`.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headcount.errors import BadRecipe
from headcount.methods.dsp_joint import DSPJoint
from headcount.methods.dsp_joint_short import DSPJointShort
from headcount.methods.dsp_pipelined import DSPPipelined
from headcount.methods.facts import Method
from headcount.methods.fewer_heads import FewerHeads
from headcount.methods.gradual import Gradual
from headcount.methods.lottery import Lottery
from headcount.methods.magnitude import Magnitude
from headcount.methods.michel import Michel
from headcount.methods.random import Random
from headcount.methods.reinit import Reinit
from headcount.methods.ste import STE
from headcount.methods.unpruned import Unpruned
from headcount.methods.voita import Voita
from headcount.settings.schema import read_values

METHODS: dict[str, type[Method]] = {
    "dsp-joint": DSPJoint,
    "dsp-joint-short": DSPJointShort,
    "dsp-pipelined": DSPPipelined,
    "fewer-heads": FewerHeads,
    "gradual": Gradual,
    "lottery": Lottery,
    "magnitude": Magnitude,
    "michel": Michel,
    "random": Random,
    "reinit": Reinit,
    "ste": STE,
    "unpruned": Unpruned,
    "voita": Voita,
}
"""Name -> method class. The command line, the sweep, the contract test and the docs page read this table."""


def method_names() -> list[str]:
    """Return the names of all methods of headcount and of other packages."""
    return sorted({*METHODS, *_plugged_in()})


def method_class(name: str) -> type[Method]:
    """Return the class of the method of that name, from headcount or another package.

    Raises:
        BadRecipe: No method has that name, or the other package gives an object that is not a method class.
    """
    if name in METHODS:
        return METHODS[name]
    others = _plugged_in()
    if name not in others:
        raise BadRecipe(f"Unknown method '{name}'. Valid methods: {', '.join(method_names())}.")
    found: object = others[name].load()
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise BadRecipe(
            f"The entry point '{name}' of headcount.methods gives {found!r}, which is no method. Derive its class from "
            "headcount.methods.facts.Method: see docs/add-a-method.md."
        )
    return found


def ignores_budget(name: object) -> bool:
    """Return whether `name` is a method that keeps every head, whatever the budget."""
    return isinstance(name, str) and name in method_names() and method_class(name).ignores_budget


def _plugged_in() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group="headcount.methods")}


def method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """Return the method of that name, with these options in place of its defaults.

    Raises:
        BadRecipe: The method or an option is unknown, or an option has the wrong type.
    """
    kind = method_class(name)
    return kind(**read_values(kind, options or {}, "options", whose=f" of method '{name}'"))
