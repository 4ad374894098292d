"""The training of a model by a method."""
