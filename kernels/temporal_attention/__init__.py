"""Attention over short windows (T <= 64) of frames and audio tokens: one call for training and serving."""

from kernels.temporal_attention.op import temporal_attention

__all__ = ["temporal_attention"]
