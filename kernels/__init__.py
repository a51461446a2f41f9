"""Compute kernels: each has a slow, obviously right reference and a fast twin with the same results."""
