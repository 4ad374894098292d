"""Make or load translation models and their tokenizers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from headcount.directory.model_files import load
from headcount.errors import BadRecipe, UnsupportedModel
from headcount.nmt import PRESETS, Translator, TranslatorConfig

NEW = "new:"
"""The prefix of a model that is made, not loaded: `new:tiny-student`, `new:transformer-base,d_model=256`."""
OF_THE_VOCABULARY = (
    "vocab_size", "is_encoder_decoder", "tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id",
    "decoder_start_token_id",
)  # fmt: skip
"""The fields of a configuration that a shape must not change."""


def new_model(source: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> Translator:
    """Make a model with random weights. `new_config` explains `source`."""
    config = new_config(source, len(tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Translator(config)


def new_config(source: str, vocabulary: int = 32_000) -> TranslatorConfig:
    """Return the configuration of a named shape with changes, such as `new:tiny-student,encoder_layers=4`.

    A list of heads, one number for each layer, is written with spaces: `encoder_heads=5 1 3 1 5 6`.

    Raises:
        BadRecipe: There is no such shape or field, or a value is not allowed.
    """
    name, *changes = source.removeprefix(NEW).split(",")
    if name not in PRESETS:
        raise BadRecipe(
            f"Unknown shape '{name}'. Valid: {', '.join(PRESETS)}; with changes: {NEW}tiny-student,d_model=128. A "
            "model to go on with is named by its directory."
        )
    fields: dict[str, Any] = dict(PRESETS[name])
    valid = [each for each in TranslatorConfig.__annotations__ if each not in OF_THE_VOCABULARY]
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise BadRecipe(f"Cannot read '{change}' in '{source}'. Write FIELD=VALUE; fields: {', '.join(valid)}.")
        if key not in valid:
            raise BadRecipe(f"Unknown field '{key}' in '{source}'. Fields: {', '.join(valid)}.")
        fields[key] = _value(value)
    changed = {change.partition("=")[0] for change in changes}
    if "decoder_heads" in changed and fields.get("decoder_type") == "ssru":
        raise BadRecipe(
            f"Got decoder_heads in '{source}', whose decoder looks back with an SSRU, which has no heads. Leave it "
            "out, or give decoder_type=attention."
        )
    if "d_model" in changed and "head_size" not in changed:
        fields.pop("head_size", None)  # it is derived from d_model again
    return TranslatorConfig(**fields, vocab_size=vocabulary)


def _value(text: str) -> object:
    if " " in text.strip():
        text = f"[{', '.join(text.split())}]"
    try:
        return json.loads(text)
    except ValueError:
        return text


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Raises:
        BadRecipe: No tokenizer can be loaded from there.
    """
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, RuntimeError, ValueError) as error:  # SentencePiece raises RuntimeError
        where = "" if Path(source).exists() else "there is nothing of that name here, and the Hub gives none: "
        raise BadRecipe(f"Cannot load a tokenizer from '{source}': {where}{str(error).splitlines()[0]}") from error


def speaking(tokenizer: PreTrainedTokenizerBase, codes: tuple[str, str] | None, source: str) -> PreTrainedTokenizerBase:
    """Set source and target language of a multilingual tokenizer, and return the tokenizer.

    Raises:
        BadRecipe: The languages are not given, or the tokenizer does not know one of them.
    """
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return tokenizer
    name = type(tokenizer).__name__
    if codes is None:
        raise BadRecipe(
            f"'{source}' has a {name}, which translates between many languages. Name source and target as it does: "
            "--languages deu_Latn,eng_Latn, or, where the data name them otherwise, --data codes=[...]."
        )
    try:
        tokenizer.src_lang, tokenizer.tgt_lang = codes
        known = [_language(tokenizer, code) not in (None, tokenizer.unk_token_id) for code in codes]
    except (KeyError, ValueError):
        known = [False, False]
    if not all(known):
        raise BadRecipe(
            f"The {name} of '{source}' does not know the languages {codes[0]} and {codes[1]}. Name them as it does "
            "(deu_Latn for NLLB, de_DE for mBART, de for M2M100): --languages, or --data codes=[...]."
        )
    return tokenizer


def start_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """Return the arguments of `generate` that make a multilingual model write the target language."""
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return {}
    language = _language(tokenizer, tokenizer.tgt_lang)
    first = tokenizer(text_target="a")["input_ids"][0]
    # NLLB, M2M100 and mBART-50 write the language first. mBART's labels end in it, and its decoder starts with it.
    return {"forced_bos_token_id" if first == language else "decoder_start_token_id": language}


def _language(tokenizer: PreTrainedTokenizerBase, code: str) -> int | None:
    """Return the id of the piece that names a language."""
    find: Callable[[str], int | None] = getattr(tokenizer, "get_lang_id", tokenizer.convert_tokens_to_ids)
    return find(code)


def load_translator(source: str) -> tuple[Translator, PreTrainedTokenizerBase]:
    """Load a translation model of our own, pruned or not, and its tokenizer.

    Raises:
        UnsupportedModel: It is a model of another library.
        BadRecipe: There is no such model.
    """
    model = load(source)
    if not isinstance(model, Translator):
        raise UnsupportedModel(
            f"'{source}' holds a {type(model).__name__}, not a translation model of headcount's (headcount train-nmt "
            "makes those). transformers' own models translate by their `generate`."
        )
    return model, load_tokenizer(source)


def load_any(source: str) -> PreTrainedModel:
    """Load a model that translates: our own, or an encoder-decoder of transformers that generates.

    Raises:
        UnsupportedModel: The model does not translate.
        BadRecipe: There is no such model, or the name is that of a shape.
    """
    if source.partition(",")[0] in PRESETS and not Path(source).is_dir():
        raise BadRecipe(f"'{source}' is a shape, and no model that is there. A new model of it is {NEW}{source}.")
    model = load(source)
    if not isinstance(model, Translator) and not (model.config.is_encoder_decoder and model.can_generate()):
        raise UnsupportedModel(f"{type(model).__name__} does not translate. Give an encoder-decoder that generates.")
    return model
