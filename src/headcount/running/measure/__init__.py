"""What a model costs: size, operations, memory, speed next to other models."""

from headcount.running.measure.flops import forward_flops, longest_input
from headcount.running.measure.latency import Comparison, Timing, compare, distinct
from headcount.running.measure.memory import Peak, peak_memory, peak_so_far
from headcount.running.measure.size import Size, parameters, size_bytes

__all__ = [
    "Comparison",
    "Peak",
    "Size",
    "Timing",
    "compare",
    "distinct",
    "forward_flops",
    "longest_input",
    "parameters",
    "peak_memory",
    "peak_so_far",
    "size_bytes",
]
