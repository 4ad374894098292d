"""Plain values: sites, the map, subsets, budgets."""
