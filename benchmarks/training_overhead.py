"""What gates and annealing cost in a training step of a BERT-base-shaped classifier.

    python benchmarks/training_overhead.py --layers 12 --batch-size 8 --length 128

Steps with and without gates alternate, beginning with another each round; the overhead is the median of the ratios.
"""

import argparse
import statistics
import time

import torch
from transformers import BertConfig, BertForSequenceClassification

import headcount


def main() -> None:
    parser = argparse.ArgumentParser(description="Overhead of gates in a training step.")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--keep", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(headcount.fast_matmul().why)
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=options.layers)).train()
    ids = torch.randint(1000, 30000, (options.batch_size, options.length))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.zeros(len(ids), dtype=torch.long),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    relaxation = headcount.GumbelTopK(keep=options.keep, annealing=headcount.LogLinear(steps=options.rounds))

    def seconds(gates: headcount.Gates | None) -> float:
        start = time.perf_counter()
        loss = model(**batch).loss
        if gates is not None:
            loss = loss + gates.penalty().float()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if gates is not None:
            gates.step()
        return time.perf_counter() - start

    def gated() -> float:
        gates = headcount.attach(model, relaxation)  # attached outside the clock: once a training, not once a step
        took = seconds(gates)
        headcount.detach(model)
        return took

    ratios, plain = [], []
    for number in range(-2, options.rounds):
        with_gates, without = (gated(), seconds(None)) if number % 2 else (seconds(None), gated())[::-1]
        if number >= 0:
            ratios.append(with_gates / without)
            plain.append(without)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"step without gates: {1000 * statistics.median(plain):.0f} ms; keep {options.keep}")
    print(f"with gates / without: {middle:.4f} (quartiles {low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
