"""Tokens a second in training, of the shapes that the papers train; what docs/reproduction.md reckons full runs by.

    python benchmarks/throughput.py docs/results/reproduction/throughput.jsonl --machine "one core of …"

A step is forward, backward and Adam on random tokens, 16 a sentence on each side of a pair or 128 a sentence of BERT;
the median of several, after one that is not counted. Lines of other machines that are in the file stay.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from headcount.tasks.translation_models import new_model

SHAPES = {
    "transformer-big": ("new:transformer-big", 36000),
    "transformer-big-8": ("new:transformer-big,encoder_heads=8,decoder_heads=8,cross_heads=8,head_size=64", 36000),
    "transformer-base": ("new:transformer-base,norm=pre", 36000),
    "iwslt_de_en": ("new:iwslt_de_en", 10000),
    "tiny-student": ("new:tiny-student", 32000),
}
PAIR_LENGTH, BERT_LENGTH = 16, 128


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens a second in training.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--tokens", type=int, default=1024, help="A step, of the longer side.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    lines = options.output.read_text().splitlines() if options.output.is_file() else []
    kept = [line for line in lines if json.loads(line)["machine"] != options.machine]
    for shape in ("bert-base", *SHAPES):
        model, batch, length = bert(options.tokens) if shape == "bert-base" else translator(shape, options.tokens)
        seconds = statistics.median(step_times(model, batch, device, options.rounds, options.precision))
        found = {
            "shape": shape,
            "machine": options.machine,
            "tokens_a_second": round(options.tokens // length * length / seconds, 1),
            "parameters": parameters(model),
        }
        print(found, flush=True)
        kept.append(json.dumps(found))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(kept) + "\n")


def bert(tokens: int) -> tuple[Any, dict[str, torch.Tensor], int]:
    ids = torch.randint(1000, 30000, (tokens // BERT_LENGTH, BERT_LENGTH))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.zeros(len(ids), dtype=torch.long),
    }
    return BertForSequenceClassification(BertConfig()), batch, BERT_LENGTH


def translator(shape: str, tokens: int) -> tuple[Any, dict[str, torch.Tensor], int]:
    source, pieces = SHAPES[shape]
    ids = torch.randint(4, pieces, (2, tokens // PAIR_LENGTH, PAIR_LENGTH))
    batch = {"input_ids": ids[0], "attention_mask": torch.ones_like(ids[0]), "labels": ids[1]}
    return new_model(source, range(pieces), 0), batch, PAIR_LENGTH


def step_times(
    model: Any, batch: dict[str, torch.Tensor], device: torch.device, rounds: int, precision: str
) -> list[float]:
    """Seconds of each step but the first."""
    model.to(device).train()
    batch = {name: value.to(device) for name, value in batch.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(rounds + 1):
        wait()
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait()
        times.append(time.perf_counter() - start)
    return times[1:]


def parameters(model: Any) -> int:
    """Those that every token meets: embeddings are looked up, unless the output layer has them too."""
    tables = {id(each.weight): each.weight.numel() for each in model.modules() if isinstance(each, torch.nn.Embedding)}
    output = model.config.vocab_size * model.config.d_model if hasattr(model.config, "d_model") else 0
    return sum(each.numel() for each in model.parameters()) - sum(tables.values()) + output


if __name__ == "__main__":
    main()
