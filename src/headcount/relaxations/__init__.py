"""Differentiable random subsets: what makes gates trainable. One file each."""

from headcount.relaxations.annealing import LogLinear
from headcount.relaxations.gumbel_topk import GumbelTopK, soft_top_k

__all__ = ["GumbelTopK", "LogLinear", "soft_top_k"]
