"""The published methods: from a model and a budget to a subset, and the weights that go with it. One file each.

A method is a frozen dataclass whose fields are its hyper-parameters, with the paper's defaults. Other packages add
theirs through the entry point `headcount.methods`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, runtime_checkable

from headcount.errors import BadRecipe
from headcount.methods.dsp_joint import DSPJoint
from headcount.methods.dsp_joint_short import DSPJointShort
from headcount.methods.dsp_pipelined import DSPPipelined
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
from headcount.training.workbench import Workbench
from headcount.units.budget import Budget
from headcount.units.map import Subset


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
"""Name -> method. The command line, the sweep, the contract test and the docs page read it."""


def method_names() -> list[str]:
    """The names of all methods, of headcount and of other packages."""
    return sorted({*METHODS, *_plugged_in()})


def method_class(name: str) -> Any:
    """The method of that name, of headcount or of another package.

    Raises:
        BadRecipe: There is none.
    """
    if name in METHODS:
        return METHODS[name]
    others = _plugged_in()
    if name not in others:
        raise BadRecipe(f"Unknown method '{name}'. Valid methods: {', '.join(method_names())}.")
    return others[name].load()


def _plugged_in() -> dict[str, Any]:
    return {found.name: found for found in entry_points(group="headcount.methods")}


def method(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """The method of that name with these options in place of the paper's values.

    Raises:
        BadRecipe: No method, or no option of the method, has that name, or an option has the wrong type.
    """
    kind = method_class(name)
    return kind(**read_values(kind, options or {}, "options", whose=f" of method '{name}'"))
