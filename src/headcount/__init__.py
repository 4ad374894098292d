"""headcount removes attention heads from Transformers: name a budget, pick a method, get back a smaller model.

Importing it also teaches transformers to load pruned models: see `headcount.loader`.
"""

from importlib.metadata import version

from headcount import loader as _loader  # teaches transformers
from headcount.anatomy import head_map, present
from headcount.budget import Budget
from headcount.callback import PruningCallback
from headcount.errors import (
    BadData,
    BadRecipe,
    CorruptCheckpoint,
    CorruptRecord,
    DiskFull,
    ExportFailed,
    PruningError,
    SurgeryFailed,
    UnsupportedModel,
)
from headcount.export import Exported, export_model
from headcount.gates import Gates, attach, detach
from headcount.gating import masked
from headcount.heads import Head, HeadMap, Site, Subset
from headcount.importance import Confidence, GradientImportance, MagnitudeImportance, RandomImportance
from headcount.matmul import fast_matmul
from headcount.measure import compare
from headcount.methods import METHODS
from headcount.plan import Plan
from headcount.recipe import Recipe
from headcount.records import Record, read_records
from headcount.relaxations import Fading, GumbelTopK, HardConcrete, LogLinear, StraightThrough
from headcount.run import run_recipe
from headcount.runtimes import open_model
from headcount.settings import TrainingSettings
from headcount.shape import compare_shapes
from headcount.surgery import remove_heads

__version__ = version("headcount")

__all__ = [
    "METHODS",
    "BadData",
    "BadRecipe",
    "Budget",
    "Confidence",
    "CorruptCheckpoint",
    "CorruptRecord",
    "DiskFull",
    "ExportFailed",
    "Exported",
    "Fading",
    "Gates",
    "GradientImportance",
    "GumbelTopK",
    "HardConcrete",
    "Head",
    "HeadMap",
    "LogLinear",
    "MagnitudeImportance",
    "Plan",
    "PruningCallback",
    "PruningError",
    "RandomImportance",
    "Recipe",
    "Record",
    "Site",
    "StraightThrough",
    "Subset",
    "SurgeryFailed",
    "TrainingSettings",
    "UnsupportedModel",
    "attach",
    "compare",
    "compare_shapes",
    "detach",
    "export_model",
    "fast_matmul",
    "head_map",
    "masked",
    "open_model",
    "present",
    "read_records",
    "remove_heads",
    "run_recipe",
]

del _loader
