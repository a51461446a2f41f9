"""Shipped block sizes of the differentiable ray marcher: what is launched, and what the compile check compiles."""

from __future__ import annotations

FORWARD_RAYS, FORWARD_WARPS = 64, 4  # rays of a program
BACKWARD_RAYS, BACKWARD_WARPS = 64, 4
