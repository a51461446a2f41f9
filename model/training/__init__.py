"""Training entries, one per stage; offline only."""
