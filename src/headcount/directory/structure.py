"""What teaches transformers to load a pruned model: it is an ordinary Hugging Face directory.

Importing this module teaches transformers to load one: the structure stands in `config.json` as a
`quantization_config`, the extension point at which a library may prepare the model's skeleton before the weights are
loaded. So `AutoModel….from_pretrained`, `pipeline`, `Trainer`, PEFT and SentenceTransformers load it as they load any
model. Directories that transformers 4 wrote with `pruned_heads` do not: see `headcount.directory.conversion`.

Only transformers' registries for such configurations are written to; none of its functions is replaced. So asking for
another `quantization_config` while a pruned model loads ends in transformers' own error, which names both.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from headcount.errors import CorruptCheckpoint
from headcount.units.map import STRUCTURE_NAME, STRUCTURE_VERSION

# This file is imported as soon as transformers is, and that may be in the midst of the import of the anatomy or of what
# stands on it: so what it needs of these is imported when it is needed.

Sites = Mapping[str, Mapping[str, Any]]
"""Site name -> {"heads": heads it was built with, "kept": those it kept}."""

Recorded = TypeVar("Recorded")
"""Whatever is recorded under the name of a site or a parameter."""


@register_quantization_config(STRUCTURE_NAME)
class PrunedHeads(QuantizationConfigMixin):  # type: ignore[misc]  # transformers is untyped here
    """The structure of a pruned model, as it stands in `config.json`.

    Attributes:
        sites: For every site, how many heads it was built with and which it kept.
        format_version: Of this structure; a newer one than this headcount knows is refused.
    """

    def __init__(self, sites: Any = None, format_version: object = None, **unknown: object) -> None:
        self.quant_method = STRUCTURE_NAME
        self.format_version = format_version
        self.sites = sites
        self.unknown = sorted(set(unknown) - {"quant_method"})

    def to_dict(self) -> dict[str, Any]:
        """The structure as plain data."""
        return {"quant_method": STRUCTURE_NAME, "format_version": self.format_version, "sites": self.sites}

    def cut(self, model: Any) -> None:
        """Cut a model as it was built, on the meta device say, to this structure.

        Raises:
            CorruptCheckpoint: The structure makes no sense, or is not that of this model.
        """
        from headcount.anatomy import survey
        from headcount.surgery.cut import cut

        file = _config_file(model)
        sites = match_names(model, checked_sites(self, file), file)
        live = {each.site.name: each for each in survey(model)}
        for name, site in sites.items():
            if site["heads"] != live[name].site.heads:
                raise CorruptCheckpoint(
                    f"{file}: site '{name}' is recorded with {site['heads']} heads, but the model is built with "
                    f"{live[name].site.heads}."
                )
            cut(live[name], site["kept"])


@register_quantizer(STRUCTURE_NAME)
class PrunedHeadsLoader(HfQuantizer):  # type: ignore[misc]  # transformers is untyped here
    """Cuts the skeleton of a model before its weights are loaded; afterwards nothing of a quantizer is left."""

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        self.quantization_config.cut(model)
        _check_shapes(model, kwargs.get("checkpoint_files"))

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        from headcount.surgery.cut import record_structure

        self.leave_no_flags(model)
        record_structure(model)
        return model

    def leave_no_flags(self, model: Any) -> None:
        """Take off what marks a model as quantized.

        Its weights are plain: without the flags Trainer, PEFT, .half() and .to() treat the model as any other.
        """
        self.remove_quantization_config(model)
        for module in model.modules():
            if hasattr(module, "config") and hasattr(module.config, "_is_quantized"):
                del module.config._is_quantized

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True


def checked_sites(config: Any, file: str) -> Sites:
    """The recorded sites, if the record makes sense.

    Raises:
        CorruptCheckpoint: It does not; the message names the file and the site.
    """
    if config.format_version != STRUCTURE_VERSION:
        raise CorruptCheckpoint(
            f"{file}: structure of format version {config.format_version!r}; this headcount reads version "
            f"{STRUCTURE_VERSION}. If it is newer, update headcount."
        )
    if config.unknown or not isinstance(config.sites, dict):
        raise CorruptCheckpoint(
            f"{file}: the structure needs 'sites' and nothing else, got {config.unknown or config.sites}."
        )
    for name, site in config.sites.items():
        if not isinstance(site, dict) or set(site) != {"heads", "kept"}:
            raise CorruptCheckpoint(f"{file}: site '{name}' needs 'heads' and 'kept', got {site!r}.")
        heads, kept = site["heads"], site["kept"]
        whole = isinstance(heads, int) and isinstance(kept, list) and all(type(head) is int for head in kept)
        if not whole or kept != sorted(set(kept)) or any(not 0 <= head < heads for head in kept):
            raise CorruptCheckpoint(
                f"{file}: site '{name}' is recorded to keep heads {kept!r} of {heads!r}; "
                "heads are whole numbers from 0, below that number, ascending, without repetition."
            )
    sites: Sites = config.sites
    return sites


def match_names(model: Any, sites: Mapping[str, Recorded], file: str) -> dict[str, Recorded]:
    """What is recorded of sites, under the names that they have in this model.

    The model may hold the recorded one, or be a part of it: what is recorded of sites it does not have is left out.

    Raises:
        CorruptCheckpoint: The model has a site of which nothing is recorded.
    """
    from headcount.anatomy import survey

    here = [each.site.name for each in survey(model)]
    for names in renamed(model, sites):
        if set(here) <= set(names):
            return {name: names[name] for name in here}
    strange, missing = sorted(set(sites) - set(here)), sorted(set(here) - set(sites))
    raise CorruptCheckpoint(
        f"{file}: the recorded sites are not those of {type(model).__name__}. "
        f"Recorded, not in the model: {strange[:3]}; in the model, not recorded: {missing[:3]}."
    )


def renamed(model: Any, recorded: Mapping[str, Recorded]) -> Iterator[dict[str, Recorded]]:
    """What stands under names of a checkpoint, under names of this model: all ways that transformers tries on weights.

    A checkpoint has the model's own names, or those of a part of it, or of a model it is part of; some parts (CLIP's
    towers) lose the name of their place.
    """
    prefix = f"{model.base_model_prefix}."
    moves = [move for move in get_model_conversion_mapping(model) if isinstance(move, WeightRenaming)]

    def moved(name: str) -> str:
        for move in moves:
            name, _ = move.rename_source_key(name)
        return name

    for rename in (str, lambda name: prefix + name, lambda name: name.removeprefix(prefix), moved):
        yield {rename(name): value for name, value in recorded.items()}


def _check_shapes(model: Any, files: list[str] | None) -> None:
    """Compare the cut skeleton with the shapes in the weight files, and name the first site that contradicts."""
    from headcount.anatomy import survey

    for file in files or ():
        if not str(file).endswith(".safetensors"):
            continue
        shapes = ChainMap(*renamed(model, _shapes(str(file))))
        for live in survey(model):
            for name, expected in _expected(live).items():
                found = shapes.get(name, expected)
                if found != expected:
                    raise CorruptCheckpoint(
                        f"{file}: site '{live.site.name}' should keep {len(live.kept)} heads of {live.site.head_size} "
                        f"by its config.json, but '{name}' has shape {found} instead of {expected}."
                    )


def _shapes(file: str) -> dict[str, list[int]]:
    try:
        with safe_open(file, framework="pt") as weights:
            return {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118 not a dict
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpoint(f"{file}: the weights cannot be read: {error}.") from error


def _expected(live: Any) -> dict[str, list[int]]:
    return {f"{live.site.name}.{name}": list(p.shape) for name, p in live.attention.named_parameters()}


def _config_file(model: Any) -> str:
    return f"{model.config._name_or_path or 'the configuration'}/config.json"


def recorded(config: Any) -> PrunedHeads | None:
    """The structure that a configuration records; None: nothing was pruned."""
    found = getattr(config, "quantization_config", None)
    if isinstance(found, dict) and found.get("quant_method") == STRUCTURE_NAME:
        return PrunedHeads(**found)
    return None
