"""Tasks: data, model and metric of what a model is for. `TASKS` is the table of them."""

from headcount.tasks.classification import Classification

TASKS = {"classification": Classification}
"""The tasks by the names that recipes give them."""
