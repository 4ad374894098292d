"""How long Gumbel soft top-K takes, forward and backward, noise included. One core.

python benchmarks/gumbel_topk.py --heads 144 --keep 12 --keep 132
"""

import argparse
import statistics
import time

import torch

from headcount.gates.relaxations import soft_top_k
from headcount.gates.relaxations.gumbel_topk import gumbel


def milliseconds(heads: int, keep: int, temperature: float, rounds: int) -> float:
    """Median milliseconds of one draw, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(heads, dtype=torch.float64, generator=generator).requires_grad_()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        soft_top_k(scores + gumbel(heads, generator), keep, temperature).square().sum().backward()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Milliseconds of Gumbel soft top-K, forward and backward.")
    parser.add_argument("--heads", type=int, default=144)
    parser.add_argument("--keep", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{options.heads} heads; milliseconds by temperature\n{'keep':>5}", *(f"{t:>8g}" for t in (1000, 1, 1e-2, 1e-8))
    )
    for keep in options.keep or (1, 12, 72, 132, 143):
        times = (milliseconds(options.heads, keep, t, options.rounds) for t in (1000.0, 1.0, 1e-2, 1e-8))
        print(f"{keep:>5}", *(f"{each:>8.2f}" for each in times))


if __name__ == "__main__":
    main()
