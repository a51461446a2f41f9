"""Measures of quality and speed. Offline only: serving never imports this package."""
