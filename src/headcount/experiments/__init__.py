"""Recipes, runs, grids, sweeps, reproductions."""
