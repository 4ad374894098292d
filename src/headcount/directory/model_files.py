"""Read and write model directories, pruned or not; see `headcount.directory.structure` for what a pruned one is."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel

from headcount.directory.structure import recorded
from headcount.errors import BadRecipe, CorruptCheckpoint, UnsupportedModel
from headcount.settings.writing import readable
from headcount.units.map import STRUCTURE_NAME


def skeleton(source: str | Path) -> Any:
    """The model that a directory or Hub name describes, with its heads cut, on the meta device: structure, no weights.

    Raises:
        CorruptCheckpoint: A local directory's configuration is missing, not JSON, or its structure makes no sense.
        BadRecipe: There is no such model.
        UnsupportedModel: It is quantized, an adapter, of a class that is not there, or needs code of its own; or
            transformers 4 pruned it.
    """
    config = configuration(source)
    if getattr(config, "pruned_heads", None):
        raise UnsupportedModel(
            f"'{source}' was pruned by transformers 4: its config.json has 'pruned_heads', which transformers 5 does "
            f"not read. Convert it once: headcount convert {source} NEW."
        )
    return build(config, source)


def configuration(source: str | Path) -> Any:
    """The configuration at a directory or Hub name. Raises what `skeleton` does."""
    check_readable(source)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise UnsupportedModel(f"'{source}' comes with code of its own, which headcount does not run.") from error
        where = "" if Path(source).is_dir() else f"there is no directory '{source}', and the Hub gives no such model: "
        raise BadRecipe(f"Cannot load a model from '{source}': {where}{str(error).splitlines()[0]}") from error
    _require_plain(config, source)
    return config


def build(config: Any, source: str | Path) -> Any:
    """The model that a configuration of this place describes. See `skeleton`."""
    classes = [getattr(transformers, name, None) for name in getattr(config, "architectures", None) or ()]
    kind = next((each for each in classes if each is not None), None)
    with torch.device("meta"):
        model = AutoModel.from_config(config) if kind is None else kind(config)
    if classes and type(model).__name__ not in config.architectures:
        raise UnsupportedModel(
            f"'{source}' was saved as {config.architectures[0]}, which transformers does not have; it would be loaded "
            f"as {type(model).__name__}, without what that has more. Name a class of transformers as 'architectures' "
            "in its config.json."
        )
    model.config._name_or_path = str(source)
    if (structure := recorded(config)) is not None:
        structure.cut(model)
    return model


def load(source: str | Path) -> Any:
    """The model at a directory or Hub name, pruned or not, in the class it was saved as.

    Raises:
        CorruptCheckpoint: See `skeleton`; or weights are missing, which transformers would draw at random.
        BadRecipe: There is no such model.
    """
    return load_as(type(skeleton(source)), source)


def load_as(kind: Any, source: str | Path, **options: Any) -> Any:
    """The model at a directory or Hub name, in this class; options go to `from_pretrained`. Raises what `load` does."""
    try:
        model, info = kind.from_pretrained(
            source, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    except (OSError, SafetensorError) as error:
        raise CorruptCheckpoint(f"'{source}': the weights cannot be loaded: {str(error).splitlines()[0]}") from error
    # A pooler belongs to a head that classifies: other models are saved without.
    missing = {name for name in info["missing_keys"] if "pooler" not in name}
    if broken := sorted({*missing, *(name for name, *_ in info["mismatched_keys"])}):
        raise CorruptCheckpoint(
            f"'{source}' does not hold a whole {kind.__name__}: {len(broken)} weights are missing or have another "
            f"shape, '{broken[0]}' the first of them. Save the model again, or give another."
        )
    return model


def _require_plain(config: Any, source: str | Path) -> None:
    found = getattr(config, "quantization_config", None)
    kind = found.get("quant_method") if isinstance(found, dict) else found
    if kind not in (None, STRUCTURE_NAME):
        raise UnsupportedModel(
            f"'{source}' is quantized ({kind}): its weights are packed, and heads cannot be sliced out of them. "
            "Take the model that it was made from, prune it, and quantize the pruned model."
        )


def check_readable(source: str | Path) -> None:
    """Make sure that the configuration in a local model directory, if it is one, is there and is JSON.

    Raises:
        CorruptCheckpoint: It is not; transformers' own message would not say what is wrong with it.
        UnsupportedModel: It is the directory of an adapter.
    """
    if not Path(source).is_dir():
        return
    file = Path(source) / "config.json"
    if not file.is_file() and (Path(source) / "adapter_config.json").is_file():
        raise UnsupportedModel(
            f"'{source}' is a PEFT adapter, not a model. Merge it into its model (merge_and_unload), and save that."
        )
    if not file.is_file():
        raise CorruptCheckpoint(f"'{source}' is no model directory: it has no config.json.")
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptCheckpoint(f"{file}: not JSON: {error}.") from error


def save(model: nn.Module, directory: Path, tokenizer: Any = None) -> None:
    """Write model and tokenizer into a directory that `from_pretrained` loads."""
    saved: Any = model
    saved.save_pretrained(directory)
    for file in directory.glob("*.safetensors"):
        readable(file)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)


BESIDE = (
    "tokenizer*", "vocab*", "target_vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.spm",
    "*.model", "bpe.codes", "dict.txt", "normalizer.json", "chat_template*", "preprocessor_config.json",
    "processor_config.json", "generation_config.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "[0-9]_*/*",
)  # fmt: skip
"""What stands beside a model to make its inputs, to generate, and what SentenceTransformers does with its outputs."""


def copy_beside(source: str | Path, directory: Path) -> None:
    """Copy what stands beside a model; what the directory has already stays as it is there."""
    local = Path(source)
    if not local.is_dir():
        local = Path(snapshot_download(str(source), allow_patterns=list(BESIDE)))
    for file in sorted(file for pattern in BESIDE for file in local.glob(pattern)):
        copied = directory / file.relative_to(local)
        if file.is_file() and not copied.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
