"""Load models with a classification head, and check their labels and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from headcount.anatomy.example import tokens_named
from headcount.data.labels import check_labels, model_labels
from headcount.errors import BadData, BadRecipe, CorruptCheckpoint, UnsupportedModel
from headcount.running.quiet import no_loading_report


@dataclass(frozen=True)
class Classifier:
    """A model for a classification task.

    Attributes:
        model: The model, in evaluation mode, with float32 weights.
        labels: The data's labels in the order of the model's classes.
        trained: Whether the checkpoint had a classification head. False: the head is new and random.
    """

    model: PreTrainedModel
    labels: tuple[str, ...]
    trained: bool


def load_classifier(
    source: str,
    found: tuple[str, ...],
    given: tuple[str, ...] | None = None,
    stated: tuple[str, ...] | None = None,
    seed: int = 0,
) -> Classifier:
    """Load a model with a classification head for the labels. A missing head is made new.

    Weights are read from safetensors only, as float32. No code from the model's repository is run. The
    weights of a new head depend on the seed only. The global random state does not change.

    Args:
        source: A directory, or a name on the Hub.
        found: The labels that occur in the data, sorted.
        given: The order that the user states, see `check_labels`.
        stated: The order that the data set states.
        seed: The seed of the weights of a new head.

    Raises:
        BadRecipe: No model can be loaded from there.
        UnsupportedModel: The library has no classifier for models of this kind.
        BadData: The model's classes and the data's labels disagree.
        CorruptCheckpoint: Weights cannot be read, or weights outside the head are missing or do not fit.
    """
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadRecipe(f"Cannot load a model from '{source}': {error}") from error
    # Long, because configuration, data and user must agree about the labels step by step.
    labels = check_labels(config, found, given, stated)
    named = model_labels(config)
    if named is None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    # Decoders find the last token of a sentence by the padding after it, so they must know the padding token.
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = next(iter(tokens_named(config.get_text_config(), "eos_token_id")), None)
    model, trained = _load(source, config, seed)
    numerals = tuple(str(i) for i in range(len(labels)))
    if trained and named is None and given is None and stated is None and labels != numerals:
        raise BadData(
            f"The model '{source}' has been trained to tell {len(labels)} classes, but does not name them, "
            f"and the data has the labels {', '.join(labels)}. Say what the data calls the model's "
            f"classes, in the model's order: --labels {','.join(labels)}, or these in another order."
        )
    return Classifier(model, labels, trained)


def _load(source: str, config: PreTrainedConfig, seed: int) -> tuple[PreTrainedModel, bool]:
    """Load the model, and return it and whether the checkpoint held its head."""
    try:
        with no_loading_report(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # `_held_head` refuses them by name
                output_loading_info=True,
            )
    except OSError as error:
        raise BadRecipe(f"Cannot load a model from '{source}': {error}") from error
    except SafetensorError as error:
        raise CorruptCheckpoint(
            f"The weights of '{source}' cannot be read ({error}). Save or download the model again."
        ) from error
    except ValueError as error:
        if type(config) in AutoModelForSequenceClassification._model_mapping:
            raise
        raise UnsupportedModel(
            f"'{source}' is a model of the kind '{config.model_type}', for which transformers has no "
            "classifier. Give an encoder such as BERT, or a checkpoint with a sequence classification head."
        ) from error
    return model, _held_head(source, model, info)


def _held_head(source: str, model: PreTrainedModel, info: Mapping[str, Any]) -> bool:
    body = f"{model.base_model_prefix}."
    misfits = {name: (tuple(got), tuple(wanted)) for name, got, wanted in info["mismatched_keys"]}
    missing = set(info["missing_keys"])
    # A pooler counts as part of the head in every family. Masked language models are saved without one.
    broken = sorted(name for name in {*missing, *misfits} if name.startswith(body) and "pooler" not in name)
    if broken:
        raise CorruptCheckpoint(
            f"'{source}' does not hold a whole {type(model).__name__}: {len(broken)} weights are missing or "
            f"have another shape, '{broken[0]}' the first of them. Save the model again, or give another."
        )
    if misfits:
        name, (got, wanted) = min(misfits.items())
        raise BadData(
            f"The classification head of '{source}' does not fit the data, which has "
            f"{model.config.num_labels} labels: '{name}' has the shape {got}, not {wanted}. Use data with "
            "the labels the model was trained on, or start from the model without its head."
        )
    return not any(not name.startswith(body) for name in missing)
