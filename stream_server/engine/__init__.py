"""The model's process, and the protocol to it."""
