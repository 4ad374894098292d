"""Translating as one does with models of transformers: `generate`, on a model that `AutoModel` loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from headcount.errors import BadRecipe, CorruptCheckpoint
from headcount.nmt import Search, Translator
from headcount.nmt.search import search
from headcount.nmt.vocabulary import UNKNOWN_ID
from translators import DECODERS, END, PAD, START, sources, translator


@pytest.fixture(params=["attention", "ssru"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Translator:
    """Its translations end sooner or later."""
    model = translator(3, encoder_layers=1, vocab_size=9, **DECODERS[request.param])
    with torch.no_grad():
        model.output.bias[END] += 2.5
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert isinstance(loaded, Translator)
    return loaded


@pytest.mark.parametrize(("beam", "best", "power"), [(1, 1, 1.0), (4, 1, 0.6), (4, 3, 1.0)])
def test_it_gives_what_search_finds(saved: Translator, beam: int, best: int, power: float) -> None:
    batch = sources((3, 1, 5), 5, most=9)
    found = search(saved, **batch, settings=Search(beam, normalisation=power, best=best), never=(UNKNOWN_ID,))
    saved.train()
    ids = saved.generate(*batch.values(), num_beams=beam, length_penalty=power, num_return_sequences=best)
    assert saved.training and ids.dtype == torch.long
    lines = [[START, *each.ids, END] for hypotheses in found for each in hypotheses]
    assert len(lines) == 3 * best and ids.shape[1] == max(map(len, lines))
    assert ids.tolist() == [line + [PAD] * (ids.shape[1] - len(line)) for line in lines]


def test_without_a_mask_nothing_is_padding(saved: Translator) -> None:
    ids, mask = sources((4, 4), 2, most=9).values()
    assert torch.equal(saved.generate(ids), saved.generate(ids, mask))


def test_a_limit_and_what_is_no_argument(saved: Translator) -> None:
    with torch.no_grad():
        saved.output.bias[END] -= 50  # it never ends by itself
    ids, mask = sources((4, 2), 2, most=9).values()
    found = saved.generate(ids, mask, max_new_tokens=7)
    assert found.shape == (2, 8) and not (found == END).any()  # cut, it has no end
    assert torch.equal(saved.generate(ids, mask, max_length=8), found)
    assert torch.equal(saved.generate(ids, mask, max_new_tokens=7, num_beams=3)[:, 0], found[:, 0])
    with pytest.raises(BadRecipe, match="Got do_sample, top_k. .* generates by num_beams, length_penalty"):
        saved.generate(ids, do_sample=True, top_k=3)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_masks_of_any_type(saved: Translator, dtype: torch.dtype) -> None:
    ids, mask = sources((3, 1, 5), 5, most=9).values()
    assert torch.equal(saved.generate(ids, mask.to(dtype)), saved.generate(ids, mask))


@pytest.mark.parametrize("beam", [1, 3])
def test_numbers_that_are_lost_on_the_way(saved: Translator, beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Translator.step

    def broken(self: Translator, tokens: torch.Tensor, decoding: Any) -> torch.Tensor:
        logits = step(self, tokens, decoding)
        return logits * torch.nan if decoding.position == 3 else logits

    monkeypatch.setattr(Translator, "step", broken)
    with torch.no_grad():
        saved.output.bias[END] -= 50
    with pytest.raises(CorruptCheckpoint, match="gives no piece a probability"):
        saved.generate(*sources((4, 2), 2, most=9).values(), num_beams=beam)


def test_padding_before_text_is_refused(saved: Translator) -> None:
    ids = torch.tensor([[3, 4, 2], [0, 5, 2]])
    with pytest.raises(BadRecipe, match="Got padding before text, .* padding_side='right'"):
        saved.generate(ids, (ids != 0).long())


def test_as_many_rows_as_were_asked_for(saved: Translator) -> None:
    """Within one piece there are fewer translations than eight; the last rows are empty."""
    ids, mask = sources((4, 2), 2, most=9).values()
    with torch.no_grad():
        saved.output.bias[7:] = -torch.inf
    found = saved.generate(ids, mask, num_beams=8, num_return_sequences=8, max_new_tokens=1)
    assert len(found) == 16 and found[7].tolist() == found[15].tolist() == [START, END, *[0] * (found.shape[1] - 2)]
    assert found[0].tolist() != found[7].tolist() or found[1].tolist() != found[7].tolist()


def test_more_translations_than_the_beam_is_wide(saved: Translator) -> None:
    with pytest.raises(BadRecipe, match="Got the 2 best of a beam of 1"):
        saved.generate(torch.tensor([[3, 2]]), num_return_sequences=2)
