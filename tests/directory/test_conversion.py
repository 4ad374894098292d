"""What transformers 4 pruned: convert makes an ordinary directory of it, and nothing loads it by mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from families import tiny
from headcount import convert
from headcount.anatomy import head_map, present
from headcount.anatomy.example import random_inputs
from headcount.directory.model_files import load, skeleton
from headcount.errors import BadRecipe, CorruptCheckpoint, UnsupportedModel
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs
from processes import headcount


def pruned_by_transformers_4(kept: dict[int, list[int]], directory: Path) -> Any:
    """Write a BERT as version 4 did: smaller matrices, and in the configuration the heads that are gone, by layer."""
    model = tiny("bert")
    sites = head_map(model).sites
    remove_heads(model, {sites[layer].name: heads for layer, heads in kept.items()})
    model.save_pretrained(directory)
    gone = {str(layer): sorted(set(range(4)) - set(heads)) for layer, heads in kept.items()}
    edit(directory, pruned_heads=gone)
    return model


def edit(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    config.pop("quantization_config", None)
    (directory / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("kept", [{0: [0, 1, 3], 2: [1]}, {1: [2]}])
def test_converts_bit_for_bit(kept: dict[int, list[int]], tmp_path: Path, tiny_tokenizer: Any) -> None:
    model = pruned_by_transformers_4(kept, tmp_path / "old")
    tiny_tokenizer.save_pretrained(tmp_path / "old")
    inputs = random_inputs(model)
    assert convert(tmp_path / "old", tmp_path / "new") == present(model)
    again = BertForSequenceClassification.from_pretrained(tmp_path / "new")
    assert torch.equal(outputs(again, inputs), outputs(model, inputs)) and present(again) == present(model)
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    assert "pruned_heads" not in written and written["quantization_config"]["quant_method"] == "headcount"
    assert (tmp_path / "new" / "tokenizer.json").is_file()


def test_an_old_directory_does_not_load_unseen(tmp_path: Path) -> None:
    pruned_by_transformers_4({1: [2]}, tmp_path)
    with pytest.raises(RuntimeError, match="size mismatch|mismatched"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for read in (skeleton, load):
        with pytest.raises(UnsupportedModel, match="pruned by transformers 4: .* headcount convert .* NEW"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ({"0": [9]}, r"config.json: 'pruned_heads' names heads \[9\], but 'bert.* has heads 0 to 3"),
        ({"7": [1]}, r"names layers \['7'\] that the model does not have"),
        ({"1": 2}, "must be lists of heads by layer"),
        ({"1": [0]}, "weights are missing or have another shape|should keep 3 heads"),
    ],
)
def test_records_that_make_no_sense(gone: Any, says: str, tmp_path: Path) -> None:
    pruned_by_transformers_4({1: [2]}, tmp_path / "old")
    edit(tmp_path / "old", pruned_heads=gone)
    with pytest.raises(CorruptCheckpoint, match=says):
        convert(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_not_to_be_converted(tmp_path: Path) -> None:
    tiny("bert").save_pretrained(tmp_path / "whole")
    with pytest.raises(BadRecipe, match="was not pruned by transformers 4: .* nothing to convert"):
        convert(tmp_path / "whole", tmp_path / "new")


def test_the_command(tmp_path: Path) -> None:
    model = pruned_by_transformers_4({1: [2]}, tmp_path / "old")
    told = headcount("convert", str(tmp_path / "old"), str(tmp_path / "new"), "--json")
    assert told.returncode == 0 and json.loads(told.stdout)["kept"] == len(present(model))
