"""How much faster a linear layer (forward and backward) is on the CPU with `headcount.fast_matmul`.

    python benchmarks/matmul.py --tokens 1024 --shape 768x768 --shape 768x3072

Interleaved, one thread unless told otherwise; the speed-up is the median of the ratios within a round.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import torch
from torch import nn

from headcount.running.matmul import fast_matmul

SHAPES = ("768x768", "768x3072", "3072x768", "384x384", "384x1536", "256x256", "64x64")


def seconds(layer: nn.Linear, x: torch.Tensor, repeats: int) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    for _ in range(repeats):
        layer(x).sum().backward()
    return (time.perf_counter() - start) / repeats


def measure(tokens: int, width: int, out: int, rounds: int) -> tuple[float, float, float]:
    """Gigaflops without and with, and the speed-up."""
    layer = nn.Linear(width, out)
    x = torch.randn(tokens, width, requires_grad=True)
    flops = 6 * tokens * width * out  # three products, 2 operations a multiply-add
    repeats = max(1, int(2e9 / flops))  # tens of milliseconds a sample, so that the clock is fine enough
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(-2, rounds):
        for fast in (False, True) if number % 2 else (True, False):
            with fast_matmul() if fast else nullcontext():
                took = seconds(layer, x, repeats)
            if number >= 0:
                times[fast].append(took)
    ratio = statistics.median(usual / fast for usual, fast in zip(times[False], times[True], strict=True))
    usual, fast = (flops / statistics.median(times[mode]) / 1e9 for mode in (False, True))
    return usual, fast, ratio


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of nn.Linear with and without fast_matmul.")
    parser.add_argument("--tokens", type=int, default=1024, help="rows of the input: batch x length")
    parser.add_argument("--shape", action="append", help="INxOUT, may be repeated")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with fast_matmul() as mode:
        print(mode.why)
    print(f"{options.tokens} tokens, {options.threads} thread(s), torch {torch.__version__}")
    print(f"{'shape':>12} {'usual GF/s':>11} {'fast GF/s':>10} {'speed-up':>9}")
    for shape in options.shape or SHAPES:
        width, out = (int(size) for size in shape.split("x"))
        usual, fast, ratio = measure(options.tokens, width, out, options.rounds)
        print(f"{shape:>12} {usual:>11.0f} {fast:>10.0f} {ratio:>8.2f}x")


if __name__ == "__main__":
    main()
