"""Gates on a model: hooks that multiply, gates that learn, relaxations."""
