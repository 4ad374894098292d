"""The real pretrained encoder: gated equals cut for random subsets, and its embeddings survive saving and loading."""

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from headcount.anatomy import head_map, present
from headcount.experiments.demo.demonstration import encoder_directory
from headcount.gates.hooks import masked
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs
from headcount.units.map import Subset

pytestmark = pytest.mark.slow
TEXT = ["A head that is gone is not missed.", "Two of them may be.", "Who knows?"]


@pytest.mark.parametrize("keep", [0, 6, 12, 36, 71])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gated_equals_cut(keep: int, dtype: torch.dtype) -> None:
    """To 1e-5 of the largest output in float32; in float64 rounding alone is left."""
    model = AutoModel.from_pretrained(encoder_directory(), dtype=dtype).eval()
    inputs = dict(AutoTokenizer.from_pretrained(encoder_directory())(TEXT, padding=True, return_tensors="pt"))
    order = torch.randperm(72, generator=torch.Generator().manual_seed(keep)).tolist()
    subset = Subset(head_map(model), tuple(sorted(order[:keep])))
    whole = outputs(model, inputs)
    with masked(model, subset):
        gated = outputs(model, inputs)
    remove_heads(model, subset)
    allowed = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype] * gated.abs().max()
    assert (outputs(model, inputs) - gated).abs().max() <= allowed < 0.01 < (whole - gated).abs().max()
    assert present(model) == subset


def test_embeddings_of_a_pruned_encoder(tmp_path: Path) -> None:
    encoder = SentenceTransformer(str(encoder_directory()), device="cpu")
    model = encoder[0].auto_model
    names = [site.name for site in head_map(model).sites]
    remove_heads(model, {names[0]: [], names[3]: [1, 5]})
    expected = encoder.encode(TEXT)
    encoder.save(str(tmp_path / "small"))
    again = SentenceTransformer(str(tmp_path / "small"), device="cpu")
    assert (again.encode(TEXT) == expected).all() and len(present(again[0].auto_model)) == 50
