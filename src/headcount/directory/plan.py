"""A pruning plan on its own: a few KB of JSON that cut the original model when it is loaded.

One base model on disk serves many budgets: `from_pretrained(base, quantization_config=Plan.load("plan.json"))`. A plan
holds no weights, so it can stand for a pruned model only where the weights did not change: after pipelined methods.
"""

import json
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.quantizers import register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from headcount.anatomy import LiveSite, present, survey, whole_model
from headcount.directory.fingerprint import difference, fingerprint
from headcount.directory.model_files import copy_beside, load, save
from headcount.directory.structure import PrunedHeads, PrunedHeadsLoader, checked_sites, match_names, renamed
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.gates.trainable import GATES_NAME, Gates
from headcount.settings.writing import naming_a_full_disk, require_empty, write_atomically, writing_directory
from headcount.surgery.cut import remove_heads
from headcount.units.map import STRUCTURE_NAME, STRUCTURE_VERSION, HeadMap, Site, Subset

PLAN_NAME = f"{STRUCTURE_NAME}-plan"
"""The name under which transformers knows a plan as a configuration to load with."""

FORMAT_VERSION = 1
"""Of the file; another one is refused."""

Fingerprints = Mapping[str, Mapping[str, str]]
"""Site name -> data type -> digest of the attention weights that the plan leaves there, in that data type."""


@register_quantization_config(PLAN_NAME)
@dataclass(repr=False)  # frozen is out: the base is a dataclass that is not
class Plan(QuantizationConfigMixin):  # type: ignore[misc]  # transformers is untyped here
    """The heads to keep of a base model: what makes a pruned model of it, without any weights.

    It is a `quantization_config` to transformers, the one argument of `from_pretrained` (and of `pipeline`, in
    `model_kwargs`) that lets a library work on a model it has just loaded. What comes back is an ordinary pruned
    model, of which nothing says that it came by a plan. `from_pretrained` takes it for models that are not pruned yet;
    transformers refuses two configurations. Load a pruned model first, and call `apply`.

    Attributes:
        subset: The heads to keep, with the head map of the model that the plan was made from.
        architecture: The class of that model.
        fingerprints: Of the weights that the plan leaves at each site. None: not known, and not checked.
        source: The file it came from, for messages.
    """

    quant_method: ClassVar[str] = PLAN_NAME
    subset: Subset
    architecture: str | None = None
    fingerprints: Fingerprints | None = None
    source: str = field(default="the plan", compare=False)

    @classmethod
    def of(cls, model: nn.Module, keep: Subset | None = None) -> "Plan":
        """The plan that makes this model of its base; or, given a subset, a plan that will prune this model to it.

        Args:
            model: A model, pruned or not.
            keep: The heads to keep. None: those that attached gates keep, or else those that the model has.

        Raises:
            BadRecipe: A head to keep is gone.
            UnsupportedModel: See `anatomy.survey`.
        """
        gates = getattr(whole_model(model), GATES_NAME, None)
        if keep is None:
            keep = gates.subset() if isinstance(gates, Gates) else present(model)
        _require_present(keep, present(model), "the plan")
        found = {live.site.name: fingerprint(live, keep.at(live.site.name)) for live in survey(model)}
        fingerprints = {name: prints for name, prints in found.items() if prints is not None}
        return cls(keep, type(model).__name__, fingerprints if len(fingerprints) == len(found) else None)

    def apply(self, model: nn.Module, *, check: bool = True, example: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Remove all heads but the plan's from a model, in place, and give it back.

        The model may hold the one that the plan was made from, or be a part of it; it may be pruned already, if the
        plan's heads are left. A model without weights (on the meta device; give `check=False`) has none to compare.

        Args:
            model: The model to cut.
            check: Compare gated and cut outputs, as `remove_heads` does.
            example: The batch for that.

        Raises:
            BadRecipe: Heads of the plan are gone, or the model has other weights than the plan was made for.
            CorruptCheckpoint: The plan is for a model of another architecture.
            UnsupportedModel, SurgeryFailed: See `remove_heads`.
        """
        here, title = present(model), self._title
        planned = match_names(model, {site.name: site for site in self.subset.head_map.sites}, title)
        for name, site in planned.items():
            _require_like(here.head_map[name], site, title)
        keep = here.head_map.subset({name: self.subset.at(site.name) for name, site in planned.items()})
        _require_present(keep, here, title)
        if self.fingerprints is not None:
            for live in survey(model):
                expected = self.fingerprints[planned[live.site.name].name]
                _require_weights(live, keep.at(live.site.name), expected, title)
        return remove_heads(model, keep, check=check, example=example)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON; a file that is there is replaced in one go.

        Raises:
            BadRecipe: The place cannot be written to.
            PruningError: The disk is full.
        """
        try:
            with naming_a_full_disk(path):
                write_atomically(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")
        except OSError as error:
            raise BadRecipe(f"Cannot write the plan to '{path}': {error.strerror}. Name a file to write.") from error

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """The plan that `save` wrote.

        Raises:
            BadRecipe: There is no such file.
            CorruptCheckpoint: The file is damaged, or of a version that this headcount does not know.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BadRecipe(f"Cannot read a plan from '{path}': {error.strerror}. Make one: headcount plan.") from error
        except ValueError as error:
            raise CorruptCheckpoint(f"{path}: not JSON: {error}.") from error
        return cls.from_dict(data, str(path))

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, for `from_dict`."""
        return {
            "quant_method": PLAN_NAME,
            "format_version": FORMAT_VERSION,
            "architecture": self.architecture,
            "sites": self.subset.head_map.to_json(),
            "kept": self.subset.to_json(),
            "fingerprints": None if self.fingerprints is None else {n: dict(p) for n, p in self.fingerprints.items()},
        }

    @classmethod
    def from_dict(cls, config_dict: Any, source: str = "the plan") -> "Plan":
        """The plan that `to_dict` gave.

        Raises:
            CorruptCheckpoint: The data make no sense, or are of an unknown version; the message names file and site.
        """
        if not isinstance(config_dict, dict) or config_dict.get("quant_method") != PLAN_NAME:
            raise CorruptCheckpoint(f"{source}: no pruning plan. A plan is what headcount plan or Plan.save wrote.")
        if (version := config_dict.get("format_version")) != FORMAT_VERSION:
            raise CorruptCheckpoint(
                f"{source}: plan of format version {version!r}; this headcount reads version {FORMAT_VERSION}. "
                "If it is newer, update headcount."
            )
        fields = {"quant_method", "format_version", "architecture", "sites", "kept", "fingerprints"}
        if set(config_dict) != fields:
            raise CorruptCheckpoint(f"{source}: a plan has {', '.join(sorted(fields))}; got {sorted(config_dict)}.")
        subset, architecture = _subset(config_dict, source), config_dict["architecture"]
        if not isinstance(architecture, str | None):
            raise CorruptCheckpoint(f"{source}: 'architecture' is the name of a class or null, got {architecture!r}.")
        fingerprints = config_dict["fingerprints"]
        if fingerprints is not None:
            _require_fingerprints(fingerprints, subset.head_map, source)
        return cls(subset, architecture, fingerprints, source)

    @property
    def _title(self) -> str:
        return self.source if self.architecture is None else f"{self.source} (for {self.architecture})"


@register_quantizer(PLAN_NAME)
class _PlanLoader(PrunedHeadsLoader):
    """Lets a model load as it is, then cuts it."""

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        """Nothing: the base loads whole."""

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        self.leave_no_flags(model)
        for live in survey(model):
            if any(parameter.is_meta for parameter in live.attention.parameters()):
                raise BadRecipe(
                    f"{self.quantization_config.source}: the weights of site '{live.site.name}' are offloaded, so they "
                    "cannot be cut. Load with a device_map that fits, or write the pruned model first: headcount apply."
                )
        return self.quantization_config.apply(model)


def extract_plan(pruned: str | Path, base: str | Path) -> Plan:
    """The plan that makes a pruned model of its base: for weights that are bit for bit those of the base.

    Args:
        pruned: Directory of the pruned model.
        base: Directory, or name on the Hub, of the model it was made from.

    Raises:
        BadRecipe: Training changed the weights, so that the plan alone does not carry the model; or its heads are
            not those of the base.
        CorruptCheckpoint: See `model_files.load`; or the two models are of different architectures.
    """
    small, whole = load(pruned), load(base)
    unchecked = Plan(present(small), type(small).__name__, source=str(pruned))
    unchecked.apply(whole, check=False)  # compared below: every parameter
    found = ChainMap(*renamed(small, whole.state_dict()))
    differences = [
        f"'{name}' {why}"
        for name, tensor in small.state_dict().items()
        if (why := difference(tensor, found.get(name))) is not None
    ]
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise BadRecipe(
            f"The weights of '{pruned}' were changed by training, so a plan alone does not carry it: {differences[0]} "
            f"in '{base}', cut to the same heads{more}. Keep the directory itself, or name the base that the "
            "heads were removed from (of a pipelined method: the trained model)."
        )
    return Plan.of(whole)


def apply_plan(base: str | Path, plan: str | Path, output: str | Path) -> Subset:
    """Write an ordinary pruned directory: a base model cut by a plan, with what stands beside it. Gives its heads.

    Args:
        base: Directory, or name on the Hub, of the base model.
        plan: File of the plan.
        output: The directory to write, new or empty.

    Raises:
        BadRecipe: The output is not empty, or the plan does not go with the base: see `Plan.apply`.
        CorruptCheckpoint: See `Plan.load` and `model_files.load`.
    """
    require_empty(output)
    model = Plan.load(plan).apply(load(base))
    with writing_directory(output) as aside:
        save(model, aside)
        copy_beside(base, aside)
    return present(model)


def _subset(data: Mapping[str, Any], source: str) -> Subset:
    try:
        head_map, kept = HeadMap.from_json(data["sites"]), dict(data["kept"])
        if list(kept) != [site.name for site in head_map.sites]:
            raise ValueError(f"'kept' names the sites {list(kept)[:3]}… instead of those of 'sites', in their order")
        sites = {site.name: {"heads": site.heads, "kept": kept[site.name]} for site in head_map.sites}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptCheckpoint(f"{source}: the plan's head map makes no sense: {error}.") from error
    checked_sites(PrunedHeads(sites, STRUCTURE_VERSION), source)
    return head_map.subset(kept)


def _require_fingerprints(fingerprints: Any, head_map: HeadMap, source: str) -> None:
    for site in head_map.sites:
        prints = fingerprints.get(site.name) if isinstance(fingerprints, dict) else None
        known = isinstance(prints, dict) and all(
            isinstance(getattr(torch, dtype, None), torch.dtype) and isinstance(digest, str)
            for dtype, digest in prints.items()
        )
        if not prints or not known:
            raise CorruptCheckpoint(
                f"{source}: site '{site.name}' needs fingerprints by data type, got {prints!r}; "
                "a plan without any has 'fingerprints': null."
            )


def _require_like(here: Site, planned: Site, title: str) -> None:
    for what in ("heads", "kv_heads", "head_size"):
        if getattr(here, what) != getattr(planned, what):
            raise CorruptCheckpoint(
                f"{title}: site '{planned.name}' has {what} {getattr(planned, what)} in the plan, but "
                f"{getattr(here, what)} in this model. A plan goes with the architecture that it was made from."
            )


def _require_present(keep: Subset, here: Subset, title: str) -> None:
    if not keep <= here:
        gone = ", ".join(f"{head.site}:{head.index}" for head in keep - here)
        raise BadRecipe(f"{title}: cannot keep heads that are gone already: {gone}. The model has: {here}.")


def _require_weights(live: LiveSite, kept: list[int], expected: Mapping[str, str], title: str) -> None:
    found = fingerprint(live, kept, expected)
    if found is not None and not found.items() <= expected.items():
        raise BadRecipe(
            f"{title}: at site '{live.site.name}' the heads it keeps have other weights here than in the model it was "
            "made from. Apply it to that base, or prune this model: headcount prune."
        )
