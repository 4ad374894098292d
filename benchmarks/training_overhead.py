"""What gates and annealing cost in a training step of a BERT-base-shaped classifier.

    python benchmarks/training_overhead.py --layers 12 --batch-size 8 --length 128

Steps with and without gates alternate, beginning with another each round; the overhead is the median of the ratios. On
a machine whose steps scatter by more than that, the gates' own work, timed alone, says more.
"""

import argparse
import statistics
import time

import torch
from transformers import BertConfig, BertForSequenceClassification

import headcount
from headcount.gates.hooks import scale_heads


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

    ratios, plain, alone = [], [], []
    for number in range(-1, options.rounds):
        with_gates, without = (gated(), seconds(None)) if number % 2 else (seconds(None), gated())[::-1]
        if number >= 0:
            ratios.append(with_gates / without)
            plain.append(without)
            alone.append(gates_alone(relaxation, options) / without)
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"step without gates: {1000 * statistics.median(plain):.0f} ms; keep {options.keep}")
    print(f"with gates / without: {middle:.4f} (quartiles {low:.4f} to {high:.4f})")
    print(f"the gates' own work, timed alone: {statistics.median(alone):.2%} of that step")


def gates_alone(relaxation: headcount.GumbelTopK, options: argparse.Namespace) -> float:
    """Seconds of what gates add to a step: the draw, a multiplication a layer, forward and backward, and their step."""
    x = torch.randn(options.batch_size, options.length, 768, requires_grad=True)
    upstream = torch.randn_like(x)
    scores = torch.randn(options.layers * 12, dtype=torch.float64, requires_grad=True)
    start = time.perf_counter()
    gates = relaxation.sample(scores, options.keep, options.rounds // 2, torch.Generator().manual_seed(0))
    for layer in gates.float().split(12):
        scale_heads(x, layer, 64).backward(upstream, retain_graph=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
