"""Launches the Triton kernels on checked inputs, with the sizes of `shapes.py`. Importing this imports triton."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
import triton.language as tl
from torch import Tensor

from kernels.temporal_attention import shapes
from kernels.temporal_attention.cache import FrameCache
from kernels.temporal_attention.inputs import AttentionWeights, HopMask
from kernels.temporal_attention.triton_impl import attention_kernel, block_kernel

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DOT = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def temporal_attention_triton(
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
    """`temporal_attention` on checked inputs. The result is a view of (B, T, H, D)."""
    B, H, T, D = query.shape
    S = key.shape[2]
    W = 0 if cache is None else cache.keys.shape[2]
    out = torch.empty(B, T, H, D, dtype=query.dtype, device=query.device)
    sizes = shapes.attention_constants(frames=T, tokens=S, cached=W, heads=H, channels=D)
    if B:
        with _device(query):
            attention_kernel[(B * H,)](
                query, key, value, _bytes(mask), _contiguous(relative_bias),
                None if cache is None else cache.keys, None if cache is None else cache.values,
                None if cache is None else cache.committed, out, T, S,
                *query.stride(), *key.stride(), *value.stride(), *((0, 0) if mask is None else mask.stride()),
                _first(hop_mask), D**-0.5, MASK=mask is not None, **_options(query, hop_mask, rope, relative_bias),
                **sizes, num_warps=shapes.warps(sizes, query.element_size()), num_stages=shapes.STAGES,
            )  # fmt: skip
    return out.transpose(1, 2)


def attention_block_triton(
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
    """`attention_block` on checked inputs."""
    B, T, C = x.shape
    source = x if context is None else context
    S, K = source.shape[1:]
    H, D, w = num_heads, len(weights.query) // num_heads, weights
    sizes = shapes.block_constants(
        frames=T, tokens=S, width=C, context=K, heads=H, channels=D, item_bytes=x.element_size()
    )
    fused = bool(sizes["FUSE_OUT"])
    out = torch.empty((B, T, C) if fused else (B, T, H * D), dtype=x.dtype, device=x.device)
    if B:
        with _device(x):
            block_kernel[(B * H // sizes["HEADS"],)](
                x, context, _bytes(mask), w.norm_weight, w.norm_bias, w.query, w.query_bias, w.key_value,
                w.key_value_bias, w.out, w.out_bias, _contiguous(relative_bias), out, T, S, *x.stride(),
                *((0, 0, 0) if context is None else context.stride()), *((0, 0) if mask is None else mask.stride()),
                _first(hop_mask), D**-0.5, w.norm_epsilon, NORM=w.norm_weight is not None, CROSS=context is not None,
                MASK=mask is not None, **_options(x, hop_mask, rope, relative_bias), **sizes,
                num_warps=shapes.warps(sizes, x.element_size()), num_stages=shapes.STAGES,
            )  # fmt: skip
    return out if fused else x + torch.nn.functional.linear(out, w.out, w.out_bias)


def _options(x: Tensor, hop_mask: HopMask | None, rope: bool, bias: Tensor | None) -> dict[str, object]:
    exact = _INTERPRETED and x.dtype == torch.bfloat16
    return {
        "ROPE": rope,
        "HOP": 0 if hop_mask is None else hop_mask.hop_frames,
        "AHEAD": 0 if hop_mask is None else hop_mask.lookahead_frames,
        "REACH": 0 if bias is None else bias.shape[1] // 2,
        "DOT": tl.float32 if exact else _DOT[x.dtype],
        "PRECISION": "tf32x3" if x.dtype == torch.float32 else "ieee",
    }


def _first(hop_mask: HopMask | None) -> int:
    return 0 if hop_mask is None else hop_mask.first_frame % hop_mask.hop_frames


def _bytes(mask: Tensor | None) -> Tensor | None:
    """The mask's bytes: Triton reads bool through pointers of 8 bits."""
    return None if mask is None else mask.view(torch.uint8)


def _contiguous(table: Tensor | None) -> Tensor | None:
    return None if table is None else table.contiguous()


def _device(x: Tensor) -> AbstractContextManager[object]:
    """Launch on the tensors' device, which need not be the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
