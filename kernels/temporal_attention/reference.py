"""Attention over short windows in torch: what the kernels are compared with, what trains, and what runs on a CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from kernels.temporal_attention.cache import FrameCache
from kernels.temporal_attention.inputs import AttentionWeights, HopMask

ROPE_BASE = 10_000.0


def temporal_attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    hop_mask: HopMask | None = None,
    rope: bool = False,
    relative_bias: Tensor | None = None,
    cache: FrameCache | None = None,
) -> Tensor:
    """`temporal_attention` without the checks. Differentiable in all but masks and cache."""
    frames = query.shape[2]
    if cache is None and hop_mask is None and relative_bias is None:
        if rope:
            positions = torch.arange(frames, device=query.device)
            query, key = rotate(query, positions), rotate(key, positions)
        return _masked(query, key, value, None if mask is None else mask[:, None, None, :])
    own = torch.arange(frames, device=query.device)
    positions = own[None]  # (B or 1, S), relative to the window's first frame
    there = torch.ones(1, frames, dtype=torch.bool, device=query.device) if mask is None else mask
    if cache is not None:
        past = cache.relative_positions()
        stored = past >= -cache.keys.shape[2]
        positions = torch.cat([past, positions.expand(len(past), -1)], 1)
        there = torch.cat([stored, there.expand(len(past), -1)], 1)
        key = torch.cat([cache.keys, key], 2)
        value = torch.cat([cache.values.masked_fill(~stored[:, None, :, None], 0.0), value], 2)
    allowed = there[:, None, None, :]
    if hop_mask is not None:
        first = torch.tensor([hop_mask.first_frame], device=query.device) if cache is None else cache.committed
        ends = ((own + first[:, None]) // hop_mask.hop_frames + 1) * hop_mask.hop_frames + hop_mask.lookahead_frames
        allowed = allowed & ((positions + first[:, None])[:, None, None, :] < ends[:, None, :, None])
    if rope:
        query, key = rotate(query, own), rotate(key, positions[:, None])
    if relative_bias is None:
        return _masked(query, key, value, allowed)
    reach = relative_bias.shape[1] // 2
    apart = (positions[:, None, :] - own[:, None]).clamp(-reach, reach) + reach  # (B or 1, T, S)
    return _masked(query, key, value, allowed, relative_bias[:, apart].transpose(0, 1))


def attention_block_reference(
    x: Tensor,
    weights: AttentionWeights,
    num_heads: int,
    *,
    context: Tensor | None = None,
    mask: Tensor | None = None,
    hop_mask: HopMask | None = None,
    rope: bool = False,
    relative_bias: Tensor | None = None,
) -> Tensor:
    """`attention_block` without the checks. Differentiable in all but masks."""
    w = weights
    h = x
    if w.norm_weight is not None:
        h = functional.layer_norm(x, x.shape[-1:], w.norm_weight, w.norm_bias, w.norm_epsilon)
    source = h if context is None else context
    key, value = functional.linear(source, w.key_value, w.key_value_bias).chunk(2, -1)
    query = functional.linear(h, w.query, w.query_bias)
    q, k, v = (part.view(*part.shape[:-1], num_heads, -1).transpose(1, 2) for part in (query, key, value))
    attended = temporal_attention_reference(
        q, k, v, mask=mask, hop_mask=hop_mask, rope=rope, relative_bias=relative_bias
    )
    return x + functional.linear(attended.transpose(1, 2).flatten(2), w.out, w.out_bias)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding (Su et al. 2021, Eq. 34): channels i and i + D / 2 of (B, H, S, D) turn by a frame's angle."""
    half = x.shape[-1] // 2
    rate = torch.exp(torch.arange(half, device=x.device, dtype=torch.float32) * (-math.log(ROPE_BASE) / half))
    angle = positions[..., None].float() * rate
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half].float(), x[..., half:].float()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


def _masked(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """Softmax attention; a query that may attend to nothing gives zeros."""
    if allowed is None:
        return functional.scaled_dot_product_attention(q, k, v)
    added = allowed if bias is None else bias.to(q.dtype).masked_fill(~allowed, float("-inf"))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=added)
    return out.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
