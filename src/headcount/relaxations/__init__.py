"""Differentiable random subsets: what makes gates trainable. One file each."""

from headcount.relaxations.annealing import LogLinear
from headcount.relaxations.fading import Fading
from headcount.relaxations.gumbel_topk import GumbelTopK, soft_top_k
from headcount.relaxations.hard_concrete import HardConcrete
from headcount.relaxations.learned import LearnedScores
from headcount.relaxations.straight_through import StraightThrough, hard_top_k

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
