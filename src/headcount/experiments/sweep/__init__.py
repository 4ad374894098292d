"""A grid of recipes, carried out on one machine or many, whatever kills it; one record a run."""

from headcount.experiments.sweep.cluster import Cluster, require_answer
from headcount.experiments.sweep.loop import Pool, Progress, run_sweep
from headcount.experiments.sweep.place import Place
from headcount.experiments.sweep.speed import measure_speed
from headcount.experiments.sweep.work import Work
from headcount.experiments.sweep.workers import Workers

__all__ = ["Cluster", "Place", "Pool", "Progress", "Work", "Workers", "measure_speed", "require_answer", "run_sweep"]
