"""Convert a directory that transformers 4 wrote after `prune_heads` into an ordinary headcount directory.

transformers 4 recorded pruned heads in `config.json` as `pruned_heads`: layer -> the heads that are gone.
transformers 5 does not read that record. It builds the whole model, and stops at weights of another size.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headcount.anatomy import present, survey
from headcount.directory.model_files import build, configuration, copy_beside, load_as, save
from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.settings.writing import require_empty, writing_directory
from headcount.surgery.cut import cut, structure
from headcount.units.map import Subset


def convert(old: str | Path, new: str | Path) -> Subset:
    """Write what transformers 4 pruned as a directory that `from_pretrained` loads with headcount. Gives its heads.

    What stands beside the model, as its tokenizer, is copied.

    Args:
        old: Directory, or name on the Hub, with `pruned_heads` in its config.json.
        new: The directory to write, new or empty.

    Raises:
        BadRecipe: The new directory is not empty, or the old model was not pruned by transformers 4.
        CorruptCheckpoint: The recorded heads do not go with the model or its weights.
        UnsupportedModel: See `model_files.skeleton`.
    """
    require_empty(new)
    config = configuration(old)
    gone = getattr(config, "pruned_heads", None)
    if not gone:
        raise BadRecipe(
            f"'{old}' was not pruned by transformers 4: its config.json has no 'pruned_heads'. There is nothing to "
            "convert; every command takes it as it is."
        )
    del config.pruned_heads
    skeleton = build(config, old)
    _cut(skeleton, gone, f"{old}/config.json")
    config.quantization_config = structure(skeleton)
    model = load_as(type(skeleton), old, config=config)
    with writing_directory(Path(new)) as aside:
        save(model, aside)
        copy_beside(old, aside)
    return present(model)


def _cut(model: Any, gone: Any, file: str) -> None:
    """Take the recorded heads off a model without weights."""
    if not isinstance(gone, Mapping) or not all(isinstance(heads, list) for heads in gone.values()):
        raise CorruptCheckpoint(f"{file}: 'pruned_heads' must be lists of heads by layer, got {gone!r}.")
    left = {str(layer): set(heads) for layer, heads in gone.items()}
    for live in survey(model):
        heads = left.pop(str(live.site.layer), set())
        if strange := [head for head in heads if head not in live.kept]:
            raise CorruptCheckpoint(
                f"{file}: 'pruned_heads' names heads {strange}, but '{live.site.name}' has heads 0 to "
                f"{live.site.heads - 1}."
            )
        cut(live, [head for head in live.kept if head not in heads])
    if left:
        raise CorruptCheckpoint(f"{file}: 'pruned_heads' names layers {sorted(left)} that the model does not have.")
