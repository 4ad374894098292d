"""Models as exports need them: unevenly cut, one site empty in the first layer, saved with a tokenizer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from families import FAMILIES, VOCABULARY, Family, tiny
from headcount.anatomy import head_map
from headcount.surgery.cut import remove_heads

_AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "bart": {"decoder_start_token_id": 2},
    "mbart": {},
    "marian": {"pad_token_id": VOCABULARY - 1, "decoder_start_token_id": VOCABULARY - 1},
    "m2m100": {"pad_token_id": 1, "bos_token_id": 0, "decoder_start_token_id": 2},
    "pegasus": {"decoder_start_token_id": 0},
    "t5": {},
    "t5 gated": {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
    "mt5": {},
    "umt5": {},
}
TRANSLATORS: dict[str, Family] = {
    name: replace(family := FAMILIES[name.partition(" ")[0]], settings={**family.settings, **changes})
    for name, changes in _AS_PUBLISHED.items()
}
"""Families of encoder-decoder models, with special tokens where published models have them."""


def uneven(model: Any) -> Any:
    """The model with other numbers of heads at each site, and none at the first."""
    keep = {}
    for number, site in enumerate(head_map(model).sites):
        group = list(range(site.heads // site.kv_heads))
        some = ([1, 3] if number % 2 else [2]) if site.kv_heads == site.heads else group
        keep[site.name] = some if number else []
    return remove_heads(model, keep)


def words(family: Family) -> PreTrainedTokenizerFast:
    """A tokenizer that knows words w0, w1, ..., with special tokens where the family has them."""
    tokens = [f"w{number}" for number in range(VOCABULARY)]
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    for name, token in special.items():
        tokens[family.settings.get(f"{name}_id", 1)] = token
    tokens[3] = "<unk>"
    table = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    takes = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=table, unk_token="<unk>", model_input_names=takes, **special)


def saved_translator(name: str, directory: Path, cut: bool = True) -> Any:
    """A tiny translation model, saved with its tokenizer."""
    family = TRANSLATORS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = family.build(family.attention[0]).eval()
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
    if name == "marian":
        with torch.no_grad():
            model.get_input_embeddings().weight[-1] = 0  # published ones start their decoders from zeros
    model = uneven(model) if cut else model
    model.save_pretrained(directory)
    words(family).save_pretrained(directory)
    return model


def saved(family: str, directory: Path) -> Any:
    """A tiny model of the family, unevenly cut and saved."""
    model = uneven(tiny(family))
    model.save_pretrained(directory)
    return model
