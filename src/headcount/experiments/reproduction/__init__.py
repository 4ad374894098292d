"""Every table and figure of both papers: a file each, with what was published and the grids that give it again."""

from headcount.experiments.reproduction.experiment import SCALES, Experiment, experiment_names, read_experiment

__all__ = ["SCALES", "Experiment", "experiment_names", "read_experiment"]
