"""Layers of small networks on a CPU: a packed product with all that stands around it, and short attention."""

from kernels.dense.attention import attend
from kernels.dense.op import Activation, Dense, Norm, Team

__all__ = ["Activation", "Dense", "Norm", "Team", "attend"]
