"""How a method trains a model."""
