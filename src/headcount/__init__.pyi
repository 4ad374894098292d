# The public names, and where they stand; __init__.py imports each when it is asked for.
from . import nmt
from .anatomy import head_map, present
from .budget import Budget
from .callback import PruningCallback
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
from .export import Exported, export_model
from .gates import Gates, attach, detach
from .gating import masked
from .heads import Head, HeadMap, Site, Subset
from .importance import Confidence, GradientImportance, MagnitudeImportance, RandomImportance
from .matmul import fast_matmul
from .measure import compare
from .methods import METHODS
from .plan import Plan
from .recipe import Recipe
from .records import Record, read_records
from .relaxations import Fading, GumbelTopK, HardConcrete, LogLinear, StraightThrough
from .run import run_recipe
from .runtimes import open_model
from .settings import TrainingSettings
from .shape import compare_shapes
from .surgery import remove_heads

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
    "detach",
    "export_model",
    "fast_matmul",
    "head_map",
    "masked",
    "nmt",
    "open_model",
    "present",
    "read_records",
    "remove_heads",
    "run_recipe",
]
