"""A media worker process: aiortc peers and their sessions. Imports no model and no torch."""
