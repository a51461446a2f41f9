"""Compute kernels: each has a slow, obviously right reference and a fast implementation with the same results."""
