"""Triton kernels of short-window attention (README.md). One program owns its session: nothing is shared between two.

All sums are float32. Operands of products are of type DOT, the tensors' own (float32 in three TF32 products), except
that the interpreter, which multiplies bfloat16 wrongly, gets float32. Every load is masked. Launched by `launch.py`.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

from kernels.temporal_attention.reference import ROPE_BASE

_LOG_BASE = tl.constexpr(math.log(ROPE_BASE))


@triton.jit
def _tile(pointer, rows, row_ok, row_stride, columns, column_ok, column_stride):
    """(rows, columns) of a matrix, 0 outside the masks."""
    places = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(pointer + places, mask=row_ok[:, None] & column_ok[None, :], other=0.0)


@triton.jit
def _cos_sin(angle):
    """Cosine and sine of up to some hundred radians, within 4e-7: Taylor series after whole quarter turns.

    The library's functions keep an array for angles beyond 1e5, in local memory.
    """
    turns = tl.floor(angle * 0.6366197723675814 + 0.5)
    r = angle - turns * 1.5707855224609375 - turns * 1.0804273188114166e-05  # pi / 2 in two parts, the first exact
    r2 = r * r
    sin = r * (1.0 + r2 * (-1 / 6 + r2 * (1 / 120 + r2 * (-1 / 5040 + r2 / 362880))))
    cos = 1.0 + r2 * (-0.5 + r2 * (1 / 24 + r2 * (-1 / 720 + r2 / 40320)))
    quarter = turns.to(tl.int32) & 3
    odd = (quarter & 1) != 0
    c = tl.where(odd, sin, cos)
    s = tl.where(odd, cos, sin)
    return tl.where((quarter == 1) | (quarter == 2), -c, c), tl.where(quarter >= 2, -s, s)


@triton.jit
def _turn(a, b, positions, half, HALF: tl.constexpr):
    """Rotary embedding of the two halves (rows, D / 2) of a head's channels."""
    rate = tl.exp(half.to(tl.float32) * (-_LOG_BASE / HALF))
    cos, sin = _cos_sin(positions.to(tl.float32)[:, None] * rate[None, :])
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
    x, rows, row_ok, row_stride, column_stride, mean, rstd, norm_w, norm_b, weight, offset, outputs, bias,
    WIDTH: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
    NORM: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`outputs` rows, from `offset` on, of a weight (any, WIDTH), times (normalised) rows of x, plus bias: float32."""
    o = tl.arange(0, BLOCK_O)
    o_ok = o < outputs
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
def _block_scores(
    x, source, x_st, x_sc, s_st, s_sc, t, t_ok, s, usable, allowed, mean, rstd, s_mean, s_rstd, norm_w, norm_b,
    q_w, q_b, kv_w, kv_b, bias, head, scale,
    C: tl.constexpr, K: tl.constexpr, D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_HALF: tl.constexpr, NORM: tl.constexpr, NORM_S: tl.constexpr,
    ROPE: tl.constexpr, REACH: tl.constexpr, DOT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax of one head's scores (BLOCK_T, BLOCK_S) from x (T, C) and its keys' source (S, K)."""
    PART: tl.constexpr = D // 2 if ROPE else D
    BLOCK_P: tl.constexpr = BLOCK_HALF if ROPE else BLOCK_D
    row = head * D
    qa = _project(x, t, t_ok, x_st, x_sc, mean, rstd, norm_w, norm_b, q_w, row, PART, q_b, C, BLOCK_T, BLOCK_P,
                  BLOCK_K, NORM, DOT, PRECISION)  # fmt: skip
    ka = _project(source, s, usable, s_st, s_sc, s_mean, s_rstd, norm_w, norm_b, kv_w, row, PART, kv_b, K, BLOCK_S,
                  BLOCK_P, BLOCK_K, NORM_S, DOT, PRECISION)  # fmt: skip
    qb = qa
    kb = ka
    if ROPE:
        qb = _project(x, t, t_ok, x_st, x_sc, mean, rstd, norm_w, norm_b, q_w, row + PART, PART, q_b, C, BLOCK_T,
                      BLOCK_P, BLOCK_K, NORM, DOT, PRECISION)  # fmt: skip
        kb = _project(source, s, usable, s_st, s_sc, s_mean, s_rstd, norm_w, norm_b, kv_w, row + PART, PART, kv_b, K,
                      BLOCK_S, BLOCK_P, BLOCK_K, NORM_S, DOT, PRECISION)  # fmt: skip
        half = tl.arange(0, BLOCK_HALF)
        qa, qb = _turn(qa, qb, t, half, PART)
        ka, kb = _turn(ka, kb, s, half, PART)
    scores = _scores(qa, qb, ka, kb, scale, ROPE, DOT, PRECISION)
    if REACH > 0:
        scores += _bias(bias, head, t, s, allowed, REACH)
    scores = tl.where(allowed, scores, float("-inf"))
    top = tl.max(scores, 1)
    p = tl.exp(scores - tl.where(top == float("-inf"), 0.0, top)[:, None])
    total = tl.sum(p, 1)
    return p / tl.where(total == 0.0, 1.0, total)[:, None]


@triton.jit
def block_kernel(
    x, context, mask, norm_w, norm_b, q_w, q_b, kv_w, kv_b, o_w, o_b, bias, out,
    T, S, x_sb, x_st, x_sc, c_sb, c_st, c_sc, m_sb, m_ss, first, scale, epsilon,
    C: tl.constexpr, K: tl.constexpr, H: tl.constexpr, D: tl.constexpr, HEADS: tl.constexpr, FUSE_OUT: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
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
    d = tl.arange(0, BLOCK_V)
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
    NORM_S: tl.constexpr = NORM and not CROSS
    s_mean = mean
    s_rstd = rstd
    if NORM_S:  # of a masked frame nothing may be used
        s_mean = tl.where(usable, mean, 0.0)
        s_rstd = tl.where(usable, rstd, 0.0)
    for index in range(HEADS):
        head = group * HEADS + index
        p = _block_scores(
            x_base, source, x_st, x_sc, s_st, s_sc, t, t_ok, s, usable, allowed, mean, rstd, s_mean, s_rstd, norm_w,
            norm_b, q_w, q_b, kv_w, kv_b, bias, head, scale, C, K, D, BLOCK_T, BLOCK_S, BLOCK_K, BLOCK_D, BLOCK_HALF,
            NORM, NORM_S, ROPE, REACH, DOT, PRECISION,
        )  # fmt: skip
        for start in range(0, D, BLOCK_V):
            row = head * D + start
            value = _project(source, s, usable, s_st, s_sc, s_mean, s_rstd, norm_w, norm_b, kv_w, H * D + row,
                             D - start, kv_b, K, BLOCK_S, BLOCK_V, BLOCK_K, NORM_S, DOT, PRECISION)  # fmt: skip
            attended = tl.dot(p.to(DOT), value.to(DOT), input_precision=PRECISION)
            if FUSE_OUT:
                w = _tile(o_w + row, d, d < D - start, 1, c, c_ok, H * D)
                result = tl.dot(attended.to(DOT), w.to(DOT), result, input_precision=PRECISION)
            else:
                places = session * T * H * D + t.to(tl.int64)[:, None] * (H * D) + row + d[None, :]
                tl.store(out + places, attended.to(out.dtype.element_ty), mask=t_ok[:, None] & (d < D - start)[None, :])
    if FUSE_OUT:
        result += tl.load(o_b + c, mask=c_ok, other=0.0).to(tl.float32)[None, :]
        result += _tile(x_base, t, t_ok, x_st, c, c_ok, x_sc).to(tl.float32)
        places = session * T * C + t.to(tl.int64)[:, None] * C + c[None, :]
        tl.store(out + places, result.to(out.dtype.element_ty), mask=t_ok[:, None] & c_ok[None, :])
