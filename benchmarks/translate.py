"""Words a second of translation models, side by side, on one thread: ours, CTranslate2's, transformers' `generate`.

    python benchmarks/translate.py models SOURCE REFERENCE MODEL... [--shortlist FILE]   # real models on real lines
    python benchmarks/translate.py shape                                                 # the tiny student's shape

`models` translates the lines with each model, float32 and int8, with the full vocabulary and with the shortlist, and
scores them. `shape` times random weights, every system on the same source ids and for the same number of target
pieces: our student, whole and with a quarter of its encoder's heads; CTranslate2 with the same encoder and two layers
of its own decoder (it has no SSRU), float32 and int8, with and without a vocabulary map; and Marian's `generate`.
Rounds are interleaved; ratios are medians of ratios within a round, to the first system or to another by name.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch
import transformers
from sacrebleu.metrics import BLEU
from transformers import MarianConfig, MarianMTModel

from headcount.data.parallel import read_pairs
from headcount.nmt import PRESETS, LineTranslator, Search, Shortlist, Translator, TranslatorConfig, to_int8
from headcount.nmt.search import search
from headcount.tasks.translation_models import load_translator

ENCODER_HEADS = [2, 0, 2, 1, 3, 4]
"""A quarter of 48: iteration 12 of Behnke and Heafield 2020, Table 4."""


def interleaved(systems: Mapping[str, Callable[[], int]], rounds: int, to: str | None = None, warmup: int = 1) -> None:
    """Print what each system did in a second, and its median ratio to one of them. Each gives how much it did."""
    names, rates = list(systems), {name: [] for name in systems}
    to = to or names[0]
    if to not in systems:
        raise SystemExit(f"Got --to {to!r}. Give one of: {'; '.join(names)}.")
    for number in range(rounds + warmup):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            done = systems[name]()
            if number >= warmup:
                rates[name].append(done / (time.perf_counter() - start))
    print(f"| system | a second | to {to} (quartiles) |\n|---|---|---|")
    for name in names:
        ratios = [own / other for own, other in zip(rates[name], rates[to], strict=True)]
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        print(f"| {name} | {statistics.median(rates[name]):,.0f} | {middle:.3f} ({low:.3f}–{high:.3f}) |", flush=True)


def models(options: argparse.Namespace) -> None:
    """Real models on real lines: BLEU, and source words a second."""
    pairs = read_pairs(f"{options.source},{options.reference}")
    words = sum(len(line.split()) for line in pairs.sources)
    shortlists = {"": None} | ({", shortlist": Shortlist.load(options.shortlist)} if options.shortlist else {})
    systems = {}
    for directory, kind in product(options.models, ("float32", "int8")):
        for end, shortlist in shortlists.items():
            model, tokenizer = load_translator(directory)
            model = to_int8(model) if kind == "int8" else model
            translator = LineTranslator(model, tokenizer, Search(options.beam), shortlist, options.batch_tokens)
            score = BLEU().corpus_score(list(translator.translate(pairs.sources)), [pairs.targets]).score
            name = f"{directory} {kind}{end} ({score:.1f} BLEU)"
            systems[name] = lambda translator=translator: len(list(translator.translate(pairs.sources))) and words
    interleaved(systems, options.rounds, options.to)


def shape(options: argparse.Namespace) -> None:
    """Random weights in the tiny student's shape: target pieces a second, for so many sentences of so many pieces."""
    for sentences in options.sentences:
        print(f"\n{sentences} sentences of {options.length} pieces\n")
        _shape(options, sentences)


def _shape(options: argparse.Namespace, sentences: int) -> None:
    torch.manual_seed(0)
    length, vocabulary = options.length, 32000
    ids = torch.randint(4, vocabulary, (sentences, length))
    mask = torch.ones_like(ids)
    candidates = torch.randperm(vocabulary - 4)[: options.candidates].sort().values + 4
    systems: dict[str, Callable[[], int]] = {}

    def ours(heads: Any, short: bool, int8: bool) -> Callable[[], int]:
        config = TranslatorConfig(**{**PRESETS["tiny-student"], "encoder_heads": heads, "vocab_size": vocabulary})
        model = Translator(config).eval()
        with torch.no_grad():
            model.output.bias[config.eos_token_id] = -1e9  # it never ends before the limit
        model = to_int8(model) if int8 else model
        settings = Search(beam=1, longest=(options.length - 10) / length)
        return lambda: sum(
            len(best[0].ids) for best in search(model, ids, mask, settings, _Fixed(candidates) if short else None)
        )

    for name, heads in {"ours": 8, "ours (a quarter of the encoder's heads)": ENCODER_HEADS}.items():
        for kind in ("float32", "int8"):
            for short in (False, True):
                systems[f"{name} {kind}{', shortlist' if short else ''}"] = ours(heads, short, kind == "int8")
    marian = MarianMTModel(
        MarianConfig(
            vocab_size=vocabulary + 1,  # the last is padding, which CTranslate2 leaves out
            d_model=256, encoder_layers=6, decoder_layers=2, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=1536, decoder_ffn_dim=1536, activation_function="relu",
            max_position_embeddings=512, pad_token_id=vocabulary, eos_token_id=2, decoder_start_token_id=vocabulary,
            forced_eos_token_id=None,
        )
    ).eval()  # fmt: skip
    forced = {"min_new_tokens": length, "max_new_tokens": length, "num_beams": 1, "do_sample": False}

    def generate() -> int:
        with torch.inference_mode():
            return int((marian.generate(input_ids=ids, attention_mask=mask, **forced).shape[1] - 1) * sentences)

    systems["transformers' generate (Marian)"] = generate
    with tempfile.TemporaryDirectory() as directory:
        for kind in ("float32", "int8"):
            for short in (False, True):
                name = f"CTranslate2 {kind}{', vocabulary map' if short else ''}"
                where = Path(directory) / name.replace(" ", "-")
                systems[name] = _ctranslate2(marian, where, kind, candidates if short else None, ids)
        chosen = {name: system for name, system in systems.items() if all(part in name for part in options.only)}
        interleaved(chosen, options.rounds, options.to)


class _Fixed:
    """The same candidates for every batch."""

    def __init__(self, pieces: torch.Tensor) -> None:
        self.pieces = torch.cat([torch.tensor([2]), pieces])

    def candidates(self, ids: torch.Tensor) -> torch.Tensor:
        return self.pieces


def _ctranslate2(
    marian: MarianMTModel, directory: Path, kind: str, candidates: torch.Tensor | None, ids: torch.Tensor
) -> Callable[[], int]:
    """CTranslate2 on the same weights; a vocabulary map gives every source piece all the candidates."""
    spec = ctranslate2.converters.transformers.MarianMTLoader().get_model_spec(marian)
    pieces = ["<pad>", "<s>", "</s>", "<unk>", *(f"p{i}" for i in range(4, marian.config.vocab_size - 1))]
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "<s>", "</s>", "<unk>"
    spec.config.decoder_start_token = "</s>"
    spec.validate()
    spec.optimize(quantization=None if kind == "float32" else "int8")
    directory.mkdir(parents=True)
    spec.save(str(directory))
    if candidates is not None:
        shared = " ".join(pieces[i] for i in candidates)
        (directory / "vmap.txt").write_text(f"\t{shared}\n", encoding="utf-8")
    translator = ctranslate2.Translator(str(directory), device="cpu", compute_type=kind, intra_threads=1)
    tokens = [[pieces[i] for i in line] for line in ids.tolist()]
    length = ids.shape[1]

    def translate() -> int:
        found = translator.translate_batch(
            tokens, beam_size=1, max_batch_size=len(tokens), min_decoding_length=length, max_decoding_length=length,
            use_vmap=candidates is not None, max_input_length=0,
        )  # fmt: skip
        return sum(len(each.hypotheses[0]) for each in found)

    return translate


def main() -> None:
    parser = argparse.ArgumentParser(description="Words a second of translation models.")
    commands = parser.add_subparsers(required=True)
    real = commands.add_parser("models")
    real.add_argument("source", type=Path)
    real.add_argument("reference", type=Path)
    real.add_argument("models", nargs="+")
    real.add_argument("--shortlist", type=Path)
    real.add_argument("--beam", type=int, default=1)
    real.add_argument("--batch-tokens", type=int, default=1024)
    real.set_defaults(run=models)
    random = commands.add_parser("shape")
    random.add_argument("--sentences", type=int, nargs="+", default=[32], help="in a batch; a table for each number")
    random.add_argument("--length", type=int, default=25)
    random.add_argument("--candidates", type=int, default=1500)
    random.add_argument("--only", action="append", default=[], help="only systems with that in their names: int8")
    random.set_defaults(run=shape)
    for each in (real, random):
        each.add_argument("--rounds", type=int, default=10)
        each.add_argument("--to", help="the system that ratios are to; the first one otherwise")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
