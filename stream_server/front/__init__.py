"""The HTTP process: page, API, health. Imports no model and no torch."""
