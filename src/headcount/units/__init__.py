"""Plain values: sites, head maps, subsets and budgets."""
