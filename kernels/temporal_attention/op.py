"""The public calls: torch's attention for training and on a CPU, Triton kernels on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.backend import Backend, choose_backend, triton_problem
from kernels.checks import KernelInputError
from kernels.temporal_attention.cache import FrameCache, check_cache
from kernels.temporal_attention.inputs import (
    DTYPES,
    AttentionWeights,
    HopMask,
    check_bias,
    check_block,
    check_floating,
    check_mask,
    check_positions,
    check_tensor,
)
from kernels.temporal_attention.reference import attention_block_reference, temporal_attention_reference
from kernels.temporal_attention.shapes import LONGEST, WIDEST, WIDEST_HEAD


def temporal_attention(
    query: Tensor,  # (B, H, T, D)
    key: Tensor,  # (B, H, S, D)
    value: Tensor,  # (B, H, S, D)
    *,
    mask: Tensor | None = None,
    hop_mask: HopMask | None = None,
    rope: bool = False,
    relative_bias: Tensor | None = None,
    cache: FrameCache | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Softmax attention (Vaswani et al. 2017, Eq. 1) of a window's frames over tokens, or over frames before and in it.

    "auto" is Triton on a CUDA device where no gradient is needed and at most 64 frames and tokens meet; torch
    elsewhere, in autocast regions and in `torch.jit.trace`, which would not record a launch.

    Args:
        mask: (B, S) bool, True where a key may be attended to. A query without any gives zeros. Values of masked keys
            must be finite all the same: torch multiplies them by zero.
        hop_mask: Frames see no further than their hop and its look-ahead (self-attention only).
        rope: Turn queries and keys by their positions (Su et al. 2021).
        relative_bias: (H, 2 R + 1), added to the scores of key j and query i at column clamp(j - i, -R, R) + R.
        cache: Committed frames before the window; all of them are seen. Not changed.

    Returns:
        (B, H, T, D). Differentiable in queries, keys, values and bias.

    Raises:
        KernelInputError: Shapes, dtypes or devices disagree, or the backend asked for cannot take them.
    """
    if not torch.jit.is_tracing():
        _check(query, key, value, mask, hop_mask, rope, relative_bias, cache)
    options = {"mask": mask, "hop_mask": hop_mask, "rope": rope, "relative_bias": relative_bias, "cache": cache}
    tensors = [t for t in (query, key, value, relative_bias) if t is not None]
    problem = triton_problem(query.device, backend) or _use_problem(tensors) or _plain_problem(query, key, cache)
    if choose_backend("temporal_attention", backend, triton=problem) == "reference":
        return temporal_attention_reference(query, key, value, **options)  # type: ignore[arg-type]
    from kernels.temporal_attention.launch import temporal_attention_triton

    out: Tensor = temporal_attention_triton(query, key, value, **options)
    return out


def attention_block(
    x: Tensor,  # (B, T, C)
    weights: AttentionWeights,
    num_heads: int,
    *,
    context: Tensor | None = None,
    mask: Tensor | None = None,
    hop_mask: HopMask | None = None,
    rope: bool = False,
    relative_bias: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """x plus the projected attention of its (normalised) frames over themselves, or over audio tokens.

    On a GPU one kernel does it all for windows up to 16 frames; longer ones leave the last projection to torch.
    What "auto" means, and the other arguments: see `temporal_attention`.

    Args:
        context: (B, S, K) what keys and values are made of; None is self-attention.

    Returns:
        (B, T, C). Differentiable in x, context, weights and bias.

    Raises:
        KernelInputError: Shapes, dtypes, devices or strides disagree, or the backend asked for cannot take them.
    """
    if not torch.jit.is_tracing():
        check_block(x, weights, num_heads, context)
        tokens = x.shape[1] if context is None else context.shape[1]
        _check_options(x, num_heads, tokens, len(weights.query) // num_heads, mask, hop_mask, rope, relative_bias)
        if context is not None and (hop_mask is not None or rope or relative_bias is not None):
            raise KernelInputError("hop_mask, rope and relative_bias are for self-attention, got a context as well")
    options = {"mask": mask, "hop_mask": hop_mask, "rope": rope, "relative_bias": relative_bias}
    tensors = [t for t in (x, context, relative_bias, *weights.named().values()) if t is not None]
    problem = (
        triton_problem(x.device, backend) or _use_problem(tensors) or _block_problem(x, weights, num_heads, context)
    )
    if choose_backend("attention_block", backend, triton=problem) == "reference":
        return attention_block_reference(x, weights, num_heads, context=context, **options)  # type: ignore[arg-type]
    from kernels.temporal_attention.launch import attention_block_triton

    out: Tensor = attention_block_triton(x, weights, num_heads, context=context, **options)
    return out


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    hop_mask: HopMask | None,
    rope: bool,
    relative_bias: Tensor | None,
    cache: FrameCache | None,
) -> None:
    check_floating("query", query, 4)
    sessions, heads, frames, channels = query.shape
    check_tensor("query", query, (sessions, None, None, None), query)
    if key.ndim != 4 or (*key.shape[:2], key.shape[3]) != (sessions, heads, channels) or key.shape != value.shape:
        shapes = f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        raise KernelInputError(f"need (B, H, T, D), (B, H, S, D), (B, H, S, D); got {shapes}")
    check_tensor("key", key, (sessions, heads, None, channels), query)
    check_tensor("value", value, key.shape, query)
    tokens = key.shape[2]
    _check_options(query, heads, tokens, channels, mask, hop_mask, rope, relative_bias)
    if cache is not None:
        check_cache(cache, key)
        if frames != tokens:
            raise KernelInputError(f"a cache needs as many keys as queries, got {tokens} and {frames}")
        if hop_mask is not None and hop_mask.first_frame:
            raise KernelInputError(f"with a cache first_frame is its own count, got {hop_mask.first_frame}")


def _check_options(
    x: Tensor,
    heads: int,
    tokens: int,
    channels: int,
    mask: Tensor | None,
    hop_mask: HopMask | None,
    rope: bool,
    relative_bias: Tensor | None,
) -> None:
    if mask is not None:
        check_mask(mask, (x.shape[0], tokens), x)
    check_positions(x.shape[-2], tokens, channels, hop_mask=hop_mask, rope=rope, bias=relative_bias)
    if relative_bias is not None:
        check_bias(relative_bias, heads, x)


def _plain_problem(query: Tensor, key: Tensor, cache: FrameCache | None) -> str:
    longest = max(query.shape[2], key.shape[2], 0 if cache is None else cache.keys.shape[2])
    return _size_problem(longest, query.shape[3])


def _block_problem(x: Tensor, weights: AttentionWeights, num_heads: int, context: Tensor | None) -> str:
    longest = max(x.shape[1], 0 if context is None else context.shape[1])
    problem = _size_problem(longest, len(weights.query) // num_heads)
    if not problem and x.shape[2] > WIDEST:
        problem = f"it takes up to {WIDEST} channels, got {x.shape[2]}"
    for name, tensor in weights.named().items():
        if not problem and not tensor.is_contiguous():
            problem = f"weights.{name} is not contiguous, got strides {tensor.stride()}"
    return problem


def _size_problem(longest: int, channels: int) -> str:
    if longest > LONGEST:
        return f"it takes up to {LONGEST} frames or tokens, got {longest}"
    return f"it takes up to {WIDEST_HEAD} channels a head, got {channels}" if channels > WIDEST_HEAD else ""


def _use_problem(tensors: list[Tensor]) -> str:
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "it has no gradient, and one is needed"
    if torch.jit.is_tracing():
        return "torch.jit.trace does not record launches"
    if torch.is_autocast_enabled(tensors[0].device.type):
        return "autocast mixes dtypes"
    wrong = next((tensor.dtype for tensor in tensors if tensor.dtype not in DTYPES), None)
    return "" if wrong is None else f"it takes float32, float16 and bfloat16, got {wrong}"
