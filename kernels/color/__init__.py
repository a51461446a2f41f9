"""Composite over an underlay and convert to I420."""
