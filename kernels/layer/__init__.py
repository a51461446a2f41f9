"""A picture layer read at displaced pixels over a background: the torso that follows the head."""

from kernels.layer.op import warp_layer

__all__ = ["warp_layer"]
