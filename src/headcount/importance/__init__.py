"""Scores for heads, computed from a trained model and data. One file each."""

from headcount.importance.gradient import GradientImportance

__all__ = ["GradientImportance"]
