"""The contract of every family, attention implementation by implementation: what can be done with it is exact."""

import copy
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers

import headcount
from families import FAMILIES, tiny
from headcount.anatomy import ANATOMY, head_map, present, survey
from headcount.anatomy.example import random_inputs
from headcount.surgery.cut import remove_heads
from headcount.surgery.selfcheck import outputs
from headcount.units.choice import units_of
from headcount.units.map import Subset

# The fast suite takes families of each row, as users get them; the others, and other implementations, are marked slow.
FAST = [
    "bert",
    "roberta",
    "albert",
    "distilbert",
    "mpnet",
    "deberta-v2",
    "modernbert",
    "vit",
    "beit",
    "clip",
    "siglip",
    "wav2vec2",
    "whisper",
    "bart",
    "marian",
    "t5",
    "umt5",
    "gpt2",
    "gptj",
    "gpt-neox",
    "bloom",
    "falcon",
    "falcon-alibi",
    "falcon-multi-query",
    "opt",
    "phi",
    "phi3",
    "llama",
    "qwen3",
    "gemma2",
    "bert-decoder",
]
CASES = [
    pytest.param(
        (family, attention),
        id=f"{family}-{attention}",
        marks=[] if family in FAST and number == 0 else [pytest.mark.slow],
    )
    for family, spec in FAMILIES.items()
    for number, attention in enumerate(spec.attention)
]
GENERATING = [case for case in CASES if FAMILIES[case.values[0][0]].generates]


def model_of(case: tuple[str, str]) -> Any:
    family, attention = case
    return tiny(family, attention=attention)


def some_units(model: Any, seed: int, unit: str = "group") -> Subset:
    """A random subset in whole units."""
    whole = head_map(model)
    kept = [heads for heads in units_of(whole.all, unit) if Random(f"{seed}{heads}").random() < 0.6]
    return Subset(whole, tuple(sorted(index for heads in kept for index in heads)))


def without_ends(model: Any) -> Subset:
    """All heads but those of the first and the last layer of each kind, and one head or group of the rest."""
    whole = head_map(model)
    ends = {kind: [site.layer for site in whole.sites if site.kind == kind] for kind in ("encoder", "decoder", "cross")}
    kept = {s.name: range(s.heads) for s in whole.sites if s.layer not in (min(ends[s.kind]), max(ends[s.kind]))}
    inner = whole.subset(kept)
    return inner - Subset(whole, units_of(inner)[0]) if inner else inner


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) if a.numel() else 0.0


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return difference(a, b) <= 1e-5 * max(1.0, float(a.abs().max()))


def loss_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A loss in which every output counts, differently at every place."""
    torch.manual_seed(0)
    model.train()
    result = model(**inputs)
    found = [value for value in result.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    flat = torch.cat([value.flatten() for value in found])
    return (flat * torch.linspace(-1, 1, len(flat))).mean()


def gate(case: tuple[str, str]) -> None:
    """Gates learn: one training step moves every score, through finite gradients."""
    model = model_of(case)
    inputs = random_inputs(model)
    gates = headcount.attach(model, headcount.GumbelTopK(keep=0.5, annealing=headcount.LogLinear(start=1.0, steps=9)))
    before = gates.scores.clone()
    (loss_of(model, inputs) + gates.penalty()).backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    gates.step()
    assert gates.dropped == 0 and bool((gates.scores != before).all())


def cut(case: tuple[str, str]) -> None:
    """Gated equals cut for uneven subsets, in units of either sort; cutting in two steps equals cutting in one."""
    for seed, unit in enumerate(("group", "query", "group")):
        model = model_of(case)
        inputs, subset = random_inputs(model, seed=seed), some_units(model, seed, unit)
        twice = copy.deepcopy(model)
        with headcount.masked(model, subset):
            gated = outputs(model, inputs)
        remove_heads(model, subset, check=False)
        assert close(gated, outputs(model, inputs)) and present(model) == subset
        if unit == "group":
            remove_heads(twice, subset | some_units(twice, seed + 100), check=False)
        remove_heads(twice, subset, check=False)
        assert difference(outputs(model, inputs), outputs(twice, inputs)) == 0
        assert model.config.quantization_config == twice.config.quantization_config


def empty_site(case: tuple[str, str]) -> None:
    """First and last layer without heads, and a model without any: gated equals cut, generation's check included."""
    for choose in (without_ends, lambda model: Subset(head_map(model), ())):
        model = model_of(case)
        inputs, subset = random_inputs(model), choose(model)
        whole = outputs(model, inputs)
        with headcount.masked(model, subset):
            gated = outputs(model, inputs)
        remove_heads(model, subset)
        assert close(gated, outputs(model, inputs)) and difference(whole, gated) > 1e-4


def train(case: tuple[str, str]) -> None:
    """A cut model trains: one step gives finite gradients, and every matrix that is left gets one."""
    model = model_of(case)
    remove_heads(model, without_ends(model), check=False)
    loss_of(model, random_inputs(model)).backward()
    for live in survey(model):
        for name, parameter in live.attention.named_parameters():
            if parameter.numel() and live.kept and "relative_attention_bias" not in name:
                assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), f"{live.site.name}.{name}"


OPERATIONS: dict[str, Callable[[tuple[str, str]], None]] = {
    "gate": gate,
    "cut": cut,
    "empty site": empty_site,
    "train": train,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("case", CASES)
def test_contract(case: tuple[str, str], operation: str, record_property: Callable[[str, object], None]) -> None:
    about(record_property, case, operation)
    require_operation = OPERATIONS[operation]
    require_operation(case)


def about(record_property: Callable[[str, object], None], case: tuple[str, str], operation: str) -> None:
    """Tell the families' page which of its cells a test is about."""
    record_property("family", case[0])
    record_property("operation", operation)


@pytest.mark.parametrize("case", CASES)
def test_save_and_load(case: tuple[str, str], tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """The family's Auto class loads a pruned directory bit for bit, and what it saves again."""
    about(record_property, case, "save/load")
    model, auto = model_of(case), getattr(transformers, FAMILIES[case[0]].auto)
    remove_heads(model, without_ends(model), check=False)
    inputs = random_inputs(model)
    expected, source = outputs(model, inputs), model
    for directory in (tmp_path / "once", tmp_path / "twice"):
        source.save_pretrained(directory)
        source, report = auto.from_pretrained(directory, attn_implementation=case[1], output_loading_info=True)
        assert type(source) is type(model)
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert difference(expected, outputs(source, inputs)) == 0
        assert present(source) == present(model)
    if FAMILIES[case[0]].generates:
        assert torch.equal(generate(model, inputs), generate(source, inputs))


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False, "num_beams": 3},
    "sampling": {"do_sample": True, "top_k": 20},
    "static": {"do_sample": False, "cache_implementation": "static"},
}


def generate(model: Any, inputs: dict[str, torch.Tensor], **way: Any) -> torch.Tensor:
    torch.manual_seed(0)
    own = {name: value for name, value in inputs.items() if name != "decoder_input_ids"}
    tokens: torch.Tensor = model.generate(**own, max_new_tokens=5, **{"do_sample": False, **way})
    return tokens


@pytest.mark.parametrize("case", GENERATING)
def test_generate(case: tuple[str, str], record_property: Callable[[str, object], None]) -> None:
    """Gated and cut models generate the same tokens, every way, padded on the left too, the first layer empty."""
    about(record_property, case, "generate")
    model = model_of(case)
    inputs = random_inputs(model)
    if "decoder_input_ids" not in inputs and "input_ids" in inputs:
        inputs = {name: value.flip(1) for name, value in inputs.items()}  # padding to the left
    ways = dict(WAYS)
    if not FAMILIES[case[0]].static_cache:
        with pytest.raises(ValueError):
            generate(model, inputs, **ways.pop("static"))
    subset = without_ends(model)
    with headcount.masked(model, subset):
        expected = {name: generate(model, inputs, **way) for name, way in ways.items()}
    remove_heads(model, subset)
    for name, way in ways.items():
        assert torch.equal(expected[name], generate(model, inputs, **way)), name


def test_the_page_is_of_these_families() -> None:
    """docs/families.md comes from `make families`; whoever adds a family runs it."""
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert rows == list(FAMILIES) and "| not run" not in page and "**fails**" not in page


def test_families_try_every_class_and_the_fast_ones_every_row() -> None:
    rows = [id(ANATOMY[type(survey(tiny(family))[0].attention).__name__]) for family in FAST]
    assert {id(row) for row in ANATOMY.values()} == set(rows)
    classes = {type(live.attention).__name__ for family in FAMILIES for live in survey(tiny(family))}
    # And the others try every class, but for headcount's own: tests/methods/test_pruning_translators.py does.
    assert classes == set(ANATOMY) - {"TranslationAttention"}
