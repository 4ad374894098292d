"""What a pruned model is on disk."""
