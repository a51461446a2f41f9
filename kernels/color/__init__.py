"""Composite over an underlay and convert to I420."""

from kernels.color.op import composite_i420

__all__ = ["composite_i420"]
