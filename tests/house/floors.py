"""The floors of the house."""

FLOORS = (
    "cli", "report", "experiments", "methods", "training", "tasks", "data", "running", "directory", "surgery",
    "importance", "gates", "anatomy", "nmt", "units", "settings", "errors",
)  # fmt: skip
"""The house from the top floor down. A file imports from its own folder and from the floors below."""
