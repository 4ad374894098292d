"""Differentiable random subsets: what makes gates trainable. One file each."""

from headcount.gates.relaxations.fading import Fading
from headcount.gates.relaxations.gumbel_topk import GumbelTopK, LogLinear, soft_top_k
from headcount.gates.relaxations.hard_concrete import HardConcrete
from headcount.gates.relaxations.learned import LearnedScores
from headcount.gates.relaxations.straight_through import StraightThrough, hard_top_k

__all__ = [
    "Fading",
    "GumbelTopK",
    "HardConcrete",
    "LearnedScores",
    "LogLinear",
    "StraightThrough",
    "hard_top_k",
    "soft_top_k",
]
