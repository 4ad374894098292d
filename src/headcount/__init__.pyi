# The public names, and where they stand; __init__.py imports each when it is asked for.
from . import nmt
from .anatomy import head_map, present
from .directory.conversion import convert
from .directory.plan import Plan
from .errors import (
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
from .experiments.recipe import Recipe
from .experiments.run import run_recipe
from .gates.hooks import masked
from .gates.relaxations import Fading, GumbelTopK, HardConcrete, LogLinear, StraightThrough
from .gates.trainable import Gates, attach, detach
from .importance import Confidence, GradientImportance, MagnitudeImportance, RandomImportance
from .methods import METHODS
from .methods.callback import PruningCallback
from .running.export import Exported, export_model
from .running.measure import compare
from .running.preview import compare_shapes
from .running.runtimes import open_model
from .settings.records import Record, read_records
from .settings.training import TrainingSettings
from .surgery.cut import remove_heads
from .units.budget import Budget
from .units.map import Head, HeadMap, Site, Subset

__version__: str

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
    "convert",
    "detach",
    "export_model",
    "head_map",
    "masked",
    "nmt",
    "open_model",
    "present",
    "read_records",
    "remove_heads",
    "run_recipe",
]
