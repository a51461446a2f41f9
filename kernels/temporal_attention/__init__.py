"""Attention over short windows (T <= 64) of frames and audio tokens: one call for training and serving."""

from kernels.temporal_attention.cache import FrameCache
from kernels.temporal_attention.inputs import AttentionWeights, HopMask
from kernels.temporal_attention.op import attention_block, temporal_attention

__all__ = ["AttentionWeights", "FrameCache", "HopMask", "attention_block", "temporal_attention"]
