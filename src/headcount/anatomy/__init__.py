"""Where attention lives in a model: a table with a row per family, and the engine that reads it."""

from headcount.anatomy.survey import LiveSite, head_map, heads_of, present, survey, whole_model
from headcount.anatomy.table import ANATOMY, Row

__all__ = ["ANATOMY", "LiveSite", "Row", "head_map", "heads_of", "present", "survey", "whole_model"]
