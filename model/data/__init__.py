"""Readers of the data sets, offline only."""
