"""Triton kernels of short-window attention (README.md). One program owns its session: nothing is shared between two.

All sums are float32. Operands of products are of type DOT, the tensors' own (float32 in three TF32 products), except
that the interpreter, which multiplies bfloat16 wrongly, gets float32. Every load is masked.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.temporal_attention import shapes
from kernels.temporal_attention.cache import FrameCache
from kernels.temporal_attention.inputs import AttentionWeights, HopMask
from kernels.temporal_attention.reference import ROPE_BASE

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DOT = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
_LOG_BASE = tl.constexpr(math.log(ROPE_BASE))


@triton.jit
def _tile(pointer, rows, row_ok, row_stride, columns, column_ok, column_stride):
    """(rows, columns) of a matrix, 0 outside the masks."""
    places = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(pointer + places, mask=row_ok[:, None] & column_ok[None, :], other=0.0)


@triton.jit
def _turn(a, b, positions, half, HALF: tl.constexpr):
    """Rotary embedding of the two halves (rows, D / 2) of a head's channels."""
    angle = positions.to(tl.float32)[:, None] * tl.exp(half.to(tl.float32) * (-_LOG_BASE / HALF))[None, :]
    cos = tl.cos(angle)
    sin = tl.sin(angle)
    return a * cos - b * sin, a * sin + b * cos


@triton.jit
def _visible(own, positions, first, HOP: tl.constexpr, AHEAD: tl.constexpr):
    """(queries, keys): the frames before the end of a frame's hop and the look-ahead."""
    ends = ((own + first) // HOP + 1) * HOP + AHEAD
    return (positions + first)[None, :] < ends[:, None]


@triton.jit
def _bias(pointer, head, own, positions, allowed, REACH: tl.constexpr):
    """(queries, keys) of a head's row in the table (H, 2 REACH + 1), float32."""
    apart = tl.minimum(tl.maximum(positions[None, :] - own[:, None], -REACH), REACH) + REACH
    return tl.load(pointer + head * (2 * REACH + 1) + apart, mask=allowed, other=0.0).to(tl.float32)


@triton.jit
def _attend(scores, allowed, v, top, total, acc, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """One step of the online softmax (Milakov and Gimelshein 2018): running maximum, sum and weighted values."""
    scores = tl.where(allowed, scores, float("-inf"))
    new = tl.maximum(top, tl.max(scores, 1))
    shift = tl.where(new == float("-inf"), 0.0, new)
    p = tl.exp(scores - shift[:, None])
    shrink = tl.exp(top - shift)
    total = total * shrink + tl.sum(p, 1)
    acc = acc * shrink[:, None] + tl.dot(p.to(DOT), v.to(DOT), input_precision=PRECISION)
    return new, total, acc


@triton.jit
def _head_tile(pointer, rows, row_ok, row_stride, column_stride, D: tl.constexpr, ROPE: tl.constexpr, DP: tl.constexpr,
               HP: tl.constexpr):  # fmt: skip
    """A head's rows, float32: whole, or as the two halves that RoPE turns (the second is not used otherwise)."""
    if ROPE:
        half = tl.arange(0, HP)
        ok = half < D // 2
        a = _tile(pointer, rows, row_ok, row_stride, half, ok, column_stride).to(tl.float32)
        b = _tile(pointer + D // 2 * column_stride, rows, row_ok, row_stride, half, ok, column_stride).to(tl.float32)
    else:
        d = tl.arange(0, DP)
        a = _tile(pointer, rows, row_ok, row_stride, d, d < D, column_stride).to(tl.float32)
        b = a
    return a, b


@triton.jit
def _scores(qa, qb, ka, kb, scale, ROPE: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr):
    """(queries, keys), float32."""
    scores = tl.dot(qa.to(DOT), tl.trans(ka.to(DOT)), input_precision=PRECISION)
    if ROPE:
        scores = tl.dot(qb.to(DOT), tl.trans(kb.to(DOT)), scores, input_precision=PRECISION)
    return scores * scale


@triton.jit
def _past(
    keys, values, done, bias, head, qa, qb, t, t_ok, half, d, scale, top, total, acc,
    D: tl.constexpr, W: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_HALF: tl.constexpr,
    ROPE: tl.constexpr, REACH: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Step over the ring of committed frames, all of which every query sees: frame f lies in slot f % W."""
    w = tl.arange(0, BLOCK_W)
    frame = done - 1 - (done - 1 - w + W) % W  # below 0 where nothing was written
    stored = (w < W) & (frame >= 0)
    past = (frame - done).to(tl.int32)
    ka, kb = _head_tile(keys, w, stored, D, 1, D, ROPE, BLOCK_D, BLOCK_HALF)
    if ROPE:
        ka, kb = _turn(ka, kb, past, half, D // 2)
    allowed = t_ok[:, None] & stored[None, :]
    scores = _scores(qa, qb, ka, kb, scale, ROPE, DOT, PRECISION)
    if REACH > 0:
        scores += _bias(bias, head, t, past, allowed, REACH)
    v = _tile(values, w, stored, D, d, d < D, 1)
    return _attend(scores, allowed, v, top, total, acc, DOT, PRECISION)


@triton.jit
def attention_kernel(
    q, k, v, mask, bias, cache_k, cache_v, committed, out,
    T, S,
    q_sb, q_sh, q_st, q_sd,
    k_sb, k_sh, k_st, k_sd,
    v_sb, v_sh, v_st, v_sd,
    m_sb, m_ss, first, scale,
    H: tl.constexpr, D: tl.constexpr, W: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_HALF: tl.constexpr, MASK: tl.constexpr, ROPE: tl.constexpr,
    HOP: tl.constexpr, AHEAD: tl.constexpr, REACH: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each (session, head): queries of a window over cached frames (W > 0) and the window's own.

    out is (B, T, H, D), contiguous; the cache (B, H, W, D), contiguous.
    """
    session = (tl.program_id(0) // H).to(tl.int64)
    head = (tl.program_id(0) % H).to(tl.int64)
    t = tl.arange(0, BLOCK_T)
    s = tl.arange(0, BLOCK_S)
    d = tl.arange(0, BLOCK_D)
    half = tl.arange(0, BLOCK_HALF)
    qa, qb = _head_tile(q + session * q_sb + head * q_sh, t, t < T, q_st, q_sd, D, ROPE, BLOCK_D, BLOCK_HALF)
    if ROPE:
        qa, qb = _turn(qa, qb, t, half, D // 2)
    top = tl.full([BLOCK_T], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_T], tl.float32)
    acc = tl.zeros([BLOCK_T, BLOCK_D], tl.float32)
    if W > 0:
        done = tl.load(committed + session)
        base = (session * H + head) * W * D
        top, total, acc = _past(
            cache_k + base, cache_v + base, done, bias, head, qa, qb, t, t < T, half, d, scale, top, total, acc, D, W,
            BLOCK_W, BLOCK_D, BLOCK_HALF, ROPE, REACH, DOT, PRECISION,
        )  # fmt: skip
        if HOP > 0:
            first = (done % HOP).to(tl.int32)
    usable = s < S
    if MASK:
        usable &= tl.load(mask + session * m_sb + s.to(tl.int64) * m_ss, mask=usable, other=0) != 0
    allowed = (t < T)[:, None] & usable[None, :]
    if HOP > 0:
        allowed &= _visible(t, s, first, HOP, AHEAD)
    ka, kb = _head_tile(k + session * k_sb + head * k_sh, s, usable, k_st, k_sd, D, ROPE, BLOCK_D, BLOCK_HALF)
    if ROPE:
        ka, kb = _turn(ka, kb, s, half, D // 2)
    scores = _scores(qa, qb, ka, kb, scale, ROPE, DOT, PRECISION)
    if REACH > 0:
        scores += _bias(bias, head, t, s, allowed, REACH)
    own = _tile(v + session * v_sb + head * v_sh, s, usable, v_st, d, d < D, v_sd)
    top, total, acc = _attend(scores, allowed, own, top, total, acc, DOT, PRECISION)
    acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    places = session * T * H * D + t.to(tl.int64)[:, None] * (H * D) + head * D + d[None, :]
    tl.store(out + places, acc.to(out.dtype.element_ty), mask=(t < T)[:, None] & (d < D)[None, :])


@triton.jit
def _project(
    x, rows, row_ok, row_stride, column_stride, mean, rstd, norm_w, norm_b, weight, offset, bias,
    WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
    NORM: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """OUTPUTS rows of a weight (any, WIDTH) from row `offset` on, times (normalised) rows of x, plus bias: float32."""
    o = tl.arange(0, BLOCK_O)
    o_ok = o < OUTPUTS
    acc = tl.zeros([BLOCK_R, BLOCK_O], tl.float32)
    for start in range(0, WIDTH, BLOCK_K):
        c = start + tl.arange(0, BLOCK_K)
        c_ok = c < WIDTH
        part = _tile(x, rows, row_ok, row_stride, c, c_ok, column_stride)
        if NORM:
            gain = tl.load(norm_w + c, mask=c_ok, other=0.0).to(tl.float32)
            lift = tl.load(norm_b + c, mask=c_ok, other=0.0).to(tl.float32)
            part = (part.to(tl.float32) - mean[:, None]) * rstd[:, None] * gain[None, :] + lift[None, :]
        w = _tile(weight + offset * WIDTH, c, c_ok, 1, o, o_ok, WIDTH)
        acc = tl.dot(part.to(DOT), w.to(DOT), acc, input_precision=PRECISION)
    return acc + tl.load(bias + offset + o, mask=o_ok, other=0.0).to(tl.float32)[None, :]


@triton.jit
def _block_head(
    x, source, x_st, x_sc, s_st, s_sc, t, t_ok, s, usable, allowed, mean, rstd, norm_w, norm_b, q_w, q_b, kv_w, kv_b,
    bias, head, scale,
    C: tl.constexpr, K: tl.constexpr, H: tl.constexpr, D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_HALF: tl.constexpr, NORM: tl.constexpr, CROSS: tl.constexpr,
    ROPE: tl.constexpr, REACH: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One head of a session from x (T, C) and its keys' source (S, K): (BLOCK_T, BLOCK_D) float32."""
    NORM_S: tl.constexpr = NORM and not CROSS
    PART: tl.constexpr = D // 2 if ROPE else D
    BLOCK_P: tl.constexpr = BLOCK_HALF if ROPE else BLOCK_D
    row = head * D
    s_mean = mean
    s_rstd = rstd
    if NORM_S:  # of a masked frame nothing may be used
        s_mean = tl.where(usable, mean, 0.0)
        s_rstd = tl.where(usable, rstd, 0.0)
    qa = _project(x, t, t_ok, x_st, x_sc, mean, rstd, norm_w, norm_b, q_w, row, q_b, C, PART, BLOCK_T, BLOCK_P,
                  BLOCK_K, NORM, DOT, PRECISION)  # fmt: skip
    ka = _project(source, s, usable, s_st, s_sc, s_mean, s_rstd, norm_w, norm_b, kv_w, row, kv_b, K, PART, BLOCK_S,
                  BLOCK_P, BLOCK_K, NORM_S, DOT, PRECISION)  # fmt: skip
    qb = qa
    kb = ka
    if ROPE:
        qb = _project(x, t, t_ok, x_st, x_sc, mean, rstd, norm_w, norm_b, q_w, row + PART, q_b, C, PART, BLOCK_T,
                      BLOCK_P, BLOCK_K, NORM, DOT, PRECISION)  # fmt: skip
        kb = _project(source, s, usable, s_st, s_sc, s_mean, s_rstd, norm_w, norm_b, kv_w, row + PART, kv_b, K, PART,
                      BLOCK_S, BLOCK_P, BLOCK_K, NORM_S, DOT, PRECISION)  # fmt: skip
        half = tl.arange(0, BLOCK_HALF)
        qa, qb = _turn(qa, qb, t, half, PART)
        ka, kb = _turn(ka, kb, s, half, PART)
    scores = _scores(qa, qb, ka, kb, scale, ROPE, DOT, PRECISION)
    if REACH > 0:
        scores += _bias(bias, head, t, s, allowed, REACH)
    v = _project(source, s, usable, s_st, s_sc, s_mean, s_rstd, norm_w, norm_b, kv_w, H * D + row, kv_b, K, D, BLOCK_S,
                 BLOCK_D, BLOCK_K, NORM_S, DOT, PRECISION)  # fmt: skip
    scores = tl.where(allowed, scores, float("-inf"))
    top = tl.max(scores, 1)
    p = tl.exp(scores - tl.where(top == float("-inf"), 0.0, top)[:, None])
    total = tl.sum(p, 1)
    p = p / tl.where(total == 0.0, 1.0, total)[:, None]
    return tl.dot(p.to(DOT), v.to(DOT), input_precision=PRECISION)


@triton.jit
def block_kernel(
    x, context, mask, norm_w, norm_b, q_w, q_b, kv_w, kv_b, o_w, o_b, bias, out,
    T, S, x_sb, x_st, x_sc, c_sb, c_st, c_sc, m_sb, m_ss, first, scale, epsilon,
    C: tl.constexpr, K: tl.constexpr, H: tl.constexpr, D: tl.constexpr, HEADS: tl.constexpr, FUSE_OUT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_HALF: tl.constexpr, NORM: tl.constexpr, CROSS: tl.constexpr, MASK: tl.constexpr,
    ROPE: tl.constexpr, HOP: tl.constexpr, AHEAD: tl.constexpr, REACH: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One program for each (session, HEADS heads): normalisation, projections, attention; FUSE_OUT: output, residual.

    out is (B, T, C) with FUSE_OUT (then HEADS is H), else (B, T, H, D), contiguous. Weights are contiguous.
    """
    groups: tl.constexpr = H // HEADS
    session = (tl.program_id(0) // groups).to(tl.int64)
    group = (tl.program_id(0) % groups).to(tl.int64)
    t = tl.arange(0, BLOCK_T)
    s = tl.arange(0, BLOCK_S)
    c = tl.arange(0, BLOCK_C)
    d = tl.arange(0, BLOCK_D)
    t_ok = t < T
    c_ok = c < C
    x_base = x + session * x_sb
    mean = tl.zeros([BLOCK_T], tl.float32)
    rstd = tl.zeros([BLOCK_T], tl.float32)
    if NORM:
        rows = _tile(x_base, t, t_ok, x_st, c, c_ok, x_sc).to(tl.float32)
        mean = tl.sum(rows, 1) / C
        apart = tl.where(c_ok[None, :], rows - mean[:, None], 0.0)
        rstd = 1.0 / tl.sqrt(tl.sum(apart * apart, 1) / C + epsilon)
    usable = s < S
    if MASK:
        usable &= tl.load(mask + session * m_sb + s.to(tl.int64) * m_ss, mask=usable, other=0) != 0
    allowed = t_ok[:, None] & usable[None, :]
    if HOP > 0:
        allowed &= _visible(t, s, first, HOP, AHEAD)
    if FUSE_OUT:
        result = tl.zeros([BLOCK_T, BLOCK_C], tl.float32)
    source = x_base
    s_st = x_st
    s_sc = x_sc
    if CROSS:
        source = context + session * c_sb
        s_st = c_st
        s_sc = c_sc
    for index in range(HEADS):
        head = group * HEADS + index
        row = head * D
        attended = _block_head(
            x_base, source, x_st, x_sc, s_st, s_sc, t, t_ok, s, usable, allowed, mean, rstd, norm_w, norm_b, q_w, q_b,
            kv_w, kv_b, bias, head, scale, C, K, H, D, BLOCK_T, BLOCK_S, BLOCK_K, BLOCK_D, BLOCK_HALF, NORM, CROSS,
            ROPE, REACH, DOT, PRECISION,
        )  # fmt: skip
        if FUSE_OUT:
            w = _tile(o_w + row, d, d < D, 1, c, c_ok, H * D)
            result = tl.dot(attended.to(DOT), w.to(DOT), result, input_precision=PRECISION)
        else:
            places = session * T * H * D + t.to(tl.int64)[:, None] * (H * D) + row + d[None, :]
            tl.store(out + places, attended.to(out.dtype.element_ty), mask=t_ok[:, None] & (d < D)[None, :])
    if FUSE_OUT:
        result += tl.load(o_b + c, mask=c_ok, other=0.0).to(tl.float32)[None, :]
        result += _tile(x_base, t, t_ok, x_st, c, c_ok, x_sc).to(tl.float32)
        places = session * T * C + t.to(tl.int64)[:, None] * C + c[None, :]
        tl.store(out + places, result.to(out.dtype.element_ty), mask=t_ok[:, None] & c_ok[None, :])


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
                **sizes, num_warps=shapes.warps(sizes["BLOCK_T"], sizes["BLOCK_S"]), num_stages=shapes.STAGES,
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
    sizes = shapes.block_constants(frames=T, tokens=S, width=C, context=K, heads=H, channels=D)
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
                num_warps=shapes.warps(sizes["BLOCK_T"], sizes["BLOCK_S"]), num_stages=shapes.STAGES,
            )  # fmt: skip
    return out if fused else x + torch.nn.functional.linear(out, w.out, w.out_bias)


def _options(x: Tensor, hop_mask: HopMask | None, rope: bool, bias: Tensor | None) -> dict[str, object]:
    exact = INTERPRETED and x.dtype == torch.bfloat16
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
