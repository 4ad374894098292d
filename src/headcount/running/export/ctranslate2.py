"""CTranslate2: encoder-decoder models for translation and summarisation, in a runtime made for generating with them.

CTranslate2 knows one number of heads per stack: the encoder has one, and all self- and cross-attention of the decoder
share another. Sites with fewer heads are padded with dead ones, of zero queries, keys, values and output columns,
which change nothing and cost time.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from headcount.anatomy import LiveSite, survey
from headcount.anatomy.example import tokens_named
from headcount.errors import BadRecipe, ExportFailed, UnsupportedModel
from headcount.running.export.graph import Written, first_line, opened, quiet, require_close, share
from headcount.running.libraries import library
from headcount.running.runtimes import CTranslate2

HELD = ("Bart", "MBart", "Marian", "M2M100", "Pegasus", "T5", "MT5", "UMT5")
"""Families, by the names of their configurations, whose conversion headcount's tests check."""


def export_ctranslate2(model: PreTrainedModel, directory: Path) -> Written:
    """Write `model.bin`, its vocabulary, and CTranslate2's entries into `config.json`; the model is used up by it.

    Raises:
        UnsupportedModel: CTranslate2 cannot hold the model.
        BadRecipe: The model has no tokenizer, whose vocabulary CTranslate2 keeps.
        ExportFailed: It could not be converted, or does not compute what PyTorch computes.
    """
    _require_held(model)
    tokenizer = _tokenizer(directory)
    inputs = _example(model, tokenizer)
    with torch.no_grad():
        logits = model(**inputs).logits
    stacks = _stacks(model)
    notes = tuple(stack.cost() for stack in stacks)
    for stack in stacks:
        for live in stack.sites:
            _pad(live, stack.heads)
    _convert(model, tokenizer, stacks, directory)
    runner = opened(CTranslate2, directory)
    assert isinstance(runner, CTranslate2)
    difference = share(_scores(model, logits, inputs, len(runner.vocabulary)), runner(inputs)[0])
    require_close(difference, runner)
    rows, tokens = inputs["decoder_input_ids"].shape
    checked = f"log probabilities of {rows} random targets of {tokens} tokens, one source padded"
    return Written(tuple(inputs), ("log_probs",), difference, checked, notes)


def _require_held(model: PreTrainedModel) -> None:
    held = type(model.config).__name__.removesuffix("Config") in HELD
    if not (held and model.config.is_encoder_decoder and model.can_generate()):
        raise UnsupportedModel(
            f"The CTranslate2 export holds encoder-decoder models that generate, of these families: {', '.join(HELD)}; "
            f"got {type(model).__name__}. Export it to onnx or openvino."
        )


def _tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    missing = "CTranslate2 keeps the vocabulary with the model, but beside this model there is no tokenizer"
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # whatever the tokenizer's own class makes of missing files
        raise BadRecipe(
            f"{missing} that can be loaded: {first_line(error)}. Save the tokenizer into the model's directory."
        ) from error
    # Without any files transformers makes up an empty tokenizer of the right class.
    if not any((directory / file).is_file() for file in tokenizer.vocab_files_names.values()):
        raise BadRecipe(f"{missing}. Save the tokenizer into the model's directory.")
    return tokenizer


@dataclass(frozen=True)
class _Stack:
    """The encoder or the decoder, with its sites.

    Attributes:
        name: As CTranslate2's specification calls it.
        sites: In order.
        kept: How many heads they have together, before any are padded.
        heads: How many each will have: as many as the largest has, and one at least.
    """

    name: str
    sites: list[LiveSite]
    kept: int
    heads: int

    def cost(self) -> str:
        """What padding adds, in words."""
        padded = self.heads * len(self.sites)
        if padded == self.kept:
            return f"{self.name}: {self.kept} heads, {self.heads} at each site; none had to be padded"
        return (
            f"{self.name}: {self.kept} heads padded to {padded}, {self.heads} at each site, as CTranslate2 knows one "
            "number of heads per stack; the dead ones cost time and bytes"
        )


def _stacks(model: nn.Module) -> list[_Stack]:
    sites = survey(model)
    sides = {
        "encoder": [live for live in sites if live.site.kind == "encoder"],
        "decoder": [live for live in sites if live.site.kind != "encoder"],
    }
    counts = {name: [len(live.kept) for live in side] for name, side in sides.items()}
    return [_Stack(name, sides[name], sum(counts[name]), max(1, *counts[name])) for name in sides]


def _pad(live: LiveSite, heads: int) -> None:
    """Add dead heads to a site, up to this number; for the converter, which reads weights and never runs the module."""
    width = heads * live.site.head_size
    for path in live.row.layout(live.core).parts:
        projection: Any = live.core.get_submodule(path)
        missing = width - projection.weight.shape[0]
        projection.weight = nn.Parameter(functional.pad(projection.weight, (0, 0, 0, missing)))
        if projection.bias is not None:
            projection.bias = nn.Parameter(functional.pad(projection.bias, (0, missing)))
    output: Any = live.attention.get_submodule(live.row.output)
    output.weight = nn.Parameter(functional.pad(output.weight, (0, width - output.weight.shape[1])))


def _convert(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stacks: list[_Stack], directory: Path) -> None:
    """Write the padded model by CTranslate2's own converter, which is handed the model instead of loading it."""
    library("ctranslate2", "ctranslate2")
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]  # untyped
        def load_model(self, *args: object, **kwargs: object) -> object:
            return model

        def load_tokenizer(self, *args: object, **kwargs: object) -> object:
            return tokenizer

        def _load(self) -> Any:
            spec = super()._load()
            for stack in stacks:
                declare_heads(getattr(spec, stack.name), stack)
            return spec

    _answer_the_converter(model)
    converted = directory / "converted"
    try:
        with quiet():
            Converter(str(directory)).convert(str(converted))
    except Exception as error:  # of many kinds
        raise ExportFailed(
            f"CTranslate2 could not convert {type(model).__name__}: {first_line(error)}. Nothing was written; try onnx "
            "or openvino."
        ) from error
    _merge_configuration(converted / "config.json", directory / "config.json")
    for file in converted.iterdir():
        file.replace(directory / file.name)
    converted.rmdir()


def _answer_the_converter(model: PreTrainedModel) -> None:
    """Put into the configuration what the converter (4.8.5) looks for there and transformers 5 has elsewhere."""
    encoder, config = model.get_encoder(), model.config
    config.normalize_before = hasattr(encoder, "layer_norm")
    config.normalize_embedding = hasattr(encoder, "layernorm_embedding")
    # By this it tells whether T5 scales its last hidden state. transformers 5 always ties; T5 scales by another entry,
    # MT5 never.
    scales = type(config).__name__ != "MT5Config"
    config.tie_word_embeddings = getattr(config, "scale_decoder_outputs", scales)


def declare_heads(spec: Any, stack: _Stack) -> None:
    """Tell CTranslate2 the heads that are there; its converter takes the encoder's of the configuration for both."""
    from ctranslate2.specs.attention_spec import MultiHeadAttentionSpec

    spec.num_heads = np.int16(stack.heads)
    size = np.int32(stack.sites[0].site.head_size)
    for layer in spec.layer:
        for attention in vars(layer).values():
            if isinstance(attention, MultiHeadAttentionSpec):
                # A specification takes no attributes after it is made, and the converter has no way to pass this one.
                # Without it CTranslate2 would divide the width by the number of heads, and be wrong without a word.
                vars(attention)["head_dim"] = size
    own = [live for live in stack.sites if live.site.kind != "cross"]
    for layer, live in zip(spec.layer, own, strict=True):
        if hasattr(layer.self_attention, "relative_attention_bias"):
            table = layer.self_attention.relative_attention_bias  # (bucket, head), of all heads of the unpruned model
            dead = stack.heads - len(live.kept)
            layer.self_attention.relative_attention_bias = functional.pad(table[:, live.kept], (0, dead))


def _merge_configuration(own: Path, both: Path) -> None:
    """One `config.json` for both readers: each ignores the other's entries; one that they share means the same."""
    merged = json.loads(both.read_text(encoding="utf-8"))
    theirs = json.loads(own.read_text(encoding="utf-8"))
    merged |= {name: value for name, value in theirs.items() if value is not None or name not in merged}
    both.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
    own.unlink()


def _example(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Random sources, the last one padded, and random targets after the token that starts the decoder."""
    config = model.config
    special = {*tokenizer.all_special_ids, config.pad_token_id, config.decoder_start_token_id}
    words = torch.tensor([token for token in range(min(len(tokenizer), config.vocab_size)) if token not in special])
    generator = torch.Generator().manual_seed(0)
    source = words[torch.randint(len(words), (3, 9), generator=generator)]
    target = words[torch.randint(len(words), (3, 7), generator=generator)]
    source[:, -1] = tokens_named(config, "eos_token_id")[0]
    target[:, 0] = config.decoder_start_token_id
    mask = torch.ones_like(source)
    mask[-1, -3:] = 0
    padded = source.where(mask == 1, torch.tensor(config.pad_token_id))
    return {"input_ids": padded, "attention_mask": mask, "decoder_input_ids": target}


def _scores(model: PreTrainedModel, logits: Tensor, inputs: dict[str, Tensor], vocabulary: int) -> Tensor:
    """What CTranslate2 is to say of these targets: log probabilities of each next token, at last of the end.

    They are among the tokens that CTranslate2 has: Marian's padding, which nobody generates, is not one of them.
    """
    end = torch.full_like(inputs["decoder_input_ids"][:, :1], tokens_named(model.config, "eos_token_id")[0])
    following = torch.cat([inputs["decoder_input_ids"][:, 1:], end], dim=1)
    return logits[..., :vocabulary].log_softmax(-1).gather(-1, following[..., None])[..., 0]
