"""Triton kernels of the differentiable ray marcher: sums along rays, and their gradients.

The backward pass stores nothing per sample. It walks each ray again from the front, as many samples as the forward
pass took, and knows what lies behind a sample as the saved total less what has been passed (README.md, "Backward").
Rays of a program belong to one frame. Gradients of planes, warp and biases are added in float32 by atomics, so their
last digits depend on the order; those of the weights are summed in a program first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.ray_march.triton_parts import (
    CHANNELS,
    DENSITY_STEP,
    HIDDEN,
    OUTPUTS,
    STEP,
    TERMINATION,
    WARP_EXTENT,
    WARP_LO,
    columns,
    field_features,
    hidden_layers,
    load_weights,
    next_sample,
    output_layer,
    plane_cell,
    plane_texel,
    product,
    sample_distance,
    shade,
    softplus,
    steps_per_voxel,
    warp_cell,
)

FEATURES = tl.constexpr(48)
TILE_FIELDS = tl.constexpr(3)  # of a row of `tiles`: frame, first ray, one past the last
SUMS = tl.constexpr(6)  # red, green, blue, transmittance, sum of w u, sum of w u^2


@triton.jit
def _load_rays(tiles, origins, directions, R: tl.constexpr):
    """Frame, ray indices (R,) int64, which exist, origins and directions."""
    tile = tiles + tl.program_id(0) * TILE_FIELDS
    frame = tl.load(tile).to(tl.int64)
    ray = tl.load(tile + 1).to(tl.int64) + tl.arange(0, R)
    there = ray < tl.load(tile + 2)
    ox = tl.load(origins + ray * 3, mask=there, other=0.0)
    oy = tl.load(origins + ray * 3 + 1, mask=there, other=0.0)
    oz = tl.load(origins + ray * 3 + 2, mask=there, other=0.0)
    dx = tl.load(directions + ray * 3, mask=there, other=1.0)
    dy = tl.load(directions + ray * 3 + 1, mask=there, other=0.0)
    dz = tl.load(directions + ray * 3 + 2, mask=there, other=0.0)
    return frame, ray, there, ox, oy, oz, dx, dy, dz


@triton.jit
def march_sums_kernel(
    tiles,
    origins,
    directions,
    t_near,
    t_far,
    distance,
    constants,
    planes,
    weights,
    biases,
    warp,
    sums,
    samples,
    heaviest,
    side,
    grid,
    nodes_x,
    nodes_y,
    nodes_z,
    R: tl.constexpr,
    TRACK: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Sums (N, 6) and sample counts (N,) of one tile's rays; with TRACK each voxel's heaviest weight."""
    frame, ray, there, ox, oy, oz, dx, dy, dz = _load_rays(tiles, origins, directions, R)
    near = tl.load(t_near + ray, mask=there, other=0.0)
    far = tl.load(t_far + ray, mask=there, other=0.0)
    biases += frame * 2 * HIDDEN
    warp += frame * nodes_x * nodes_y * nodes_z * 3
    step = tl.load(constants + STEP)
    density_step, termination = tl.load(constants + DENSITY_STEP), tl.load(constants + TERMINATION)
    skip = steps_per_voxel(dx, dy, dz, step, grid)
    k = tl.zeros([R], tl.float32)
    through, count = k + 1.0, tl.zeros([R], tl.int32)
    red, green, blue, first, second = k, k, k, k, k
    live = there & (near < far)
    while tl.max(live.to(tl.int32), 0) > 0:
        k, found = next_sample(ox, oy, oz, dx, dy, dz, near, far, k, live, skip, distance, grid, step)
        t = sample_distance(near, k, step)
        px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
        qx, qy, qz = _warped(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, found)
        f0, f1, f2 = field_features(planes, side, qx, qy, qz, found)
        w1_0, w1_1, w1_2, w2, w3 = load_weights(weights)
        _, h2 = hidden_layers(f0, f1, f2, w1_0, w1_1, w1_2, w2, biases, EMULATE)
        alpha, r, g, b = shade(output_layer(h2, w3, constants, EMULATE), density_step)
        w = tl.where(found, through * alpha, 0.0)
        u = (k + 0.5) * step
        red, green, blue = red + w * r, green + w * g, blue + w * b
        first, second = first + w * u, second + w * u * u
        through = tl.where(found, through * (1.0 - alpha), through)
        count += found.to(tl.int32)
        if TRACK:
            tl.atomic_max(heaviest + _voxel_at(px, py, pz, grid), w, mask=found, sem="relaxed")
        k += 1.0
        live = found & (through > termination)
    out = sums + ray * SUMS
    tl.store(out, red, mask=there)
    tl.store(out + 1, green, mask=there)
    tl.store(out + 2, blue, mask=there)
    tl.store(out + 3, through, mask=there)
    tl.store(out + 4, first, mask=there)
    tl.store(out + 5, second, mask=there)
    tl.store(samples + ray, count, mask=there)


@triton.jit
def _voxel_at(px, py, pz, grid):
    """Flat voxel index (R,) of positions, as `next_sample` looks them up."""
    scale = 0.5 * grid.to(tl.float32)
    ix = tl.minimum(tl.maximum(((px + 1.0) * scale).to(tl.int32), 0), grid - 1)
    iy = tl.minimum(tl.maximum(((py + 1.0) * scale).to(tl.int32), 0), grid - 1)
    iz = tl.minimum(tl.maximum(((pz + 1.0) * scale).to(tl.int32), 0), grid - 1)
    return (ix * grid + iy) * grid + iz


@triton.jit
def march_gradients_kernel(
    tiles,
    origins,
    directions,
    t_near,
    t_far,
    distance,
    constants,
    planes,
    weights,
    biases,
    warp,
    transposed,
    sums,
    samples,
    upstream,
    d_planes,
    d_weights,
    d_b3,
    d_biases,
    d_warp,
    d_rays,
    side,
    grid,
    nodes_x,
    nodes_y,
    nodes_z,
    R: tl.constexpr,
    PLANES: tl.constexpr,
    WEIGHTS: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Gradients of one tile's rays from those of its sums, `upstream` (N, 6), all added to zeroed float32 buffers.

    `transposed` holds w1 (64, 48), w2 (64, 64) and w3 (16, 64), row = output, and `d_weights` their gradients.
    `d_rays` (N, 6) is written: gradients of origin and direction. FIELD: also those of planes and weights.
    """
    frame, ray, there, ox, oy, oz, dx, dy, dz = _load_rays(tiles, origins, directions, R)
    near = tl.load(t_near + ray, mask=there, other=0.0)
    far = tl.load(t_far + ray, mask=there, other=0.0)
    left = tl.load(samples + ray, mask=there, other=0)
    biases += frame * 2 * HIDDEN
    d_biases += frame * 2 * HIDDEN
    warp_offset = frame * nodes_x * nodes_y * nodes_z * 3
    warp += warp_offset
    d_warp += warp_offset
    step, density_step = tl.load(constants + STEP), tl.load(constants + DENSITY_STEP)
    skip = steps_per_voxel(dx, dy, dz, step, grid)
    upstream += ray * SUMS
    behind, end = _whole(upstream, sums + ray * SUMS, there)
    k = tl.zeros([R], tl.float32)
    through = k + 1.0
    c, h, o = tl.arange(0, CHANNELS), tl.arange(0, HIDDEN), tl.arange(0, OUTPUTS)
    first = h[:, None] * FEATURES + c[None, :]
    second = HIDDEN * FEATURES + h[:, None] * HIDDEN + h[None, :]
    third = HIDDEN * (FEATURES + HIDDEN)
    v1, v2, v3 = transposed + first, transposed + second, transposed + third + o[:, None] * HIDDEN + h[None, :]
    d_rays += ray * 6
    live = left > 0
    while tl.max(live.to(tl.int32), 0) > 0:
        k, found = next_sample(ox, oy, oz, dx, dy, dz, near, far, k, live, skip, distance, grid, step)
        t = sample_distance(near, k, step)
        px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
        qx, qy, qz = _warped(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, found)
        f0, f1, f2 = field_features(planes, side, qx, qy, qz, found)
        w1_0, w1_1, w1_2, w2, w3 = load_weights(weights)
        h1, h2 = hidden_layers(f0, f1, f2, w1_0, w1_1, w1_2, w2, biases, EMULATE)
        raw, r, g, b = columns(output_layer(h2, w3, constants, EMULATE))
        alpha = 1.0 - tl.exp(-density_step * softplus(raw - 1.0))
        r, g, b = tl.sigmoid(r), tl.sigmoid(g), tl.sigmoid(b)
        w = tl.where(found, through * alpha, 0.0)
        through = tl.where(found, through * (1.0 - alpha), through)
        u = (k + 0.5) * step
        g_red = tl.load(upstream, mask=found, other=0.0)
        g_green = tl.load(upstream + 1, mask=found, other=0.0)
        g_blue = tl.load(upstream + 2, mask=found, other=0.0)
        g_first = tl.load(upstream + 4, mask=found, other=0.0)
        g_second = tl.load(upstream + 5, mask=found, other=0.0)
        value = g_red * r + g_green * g + g_blue * b + g_first * u + g_second * u * u
        behind -= w * value
        d_depth = through * value - behind - end
        d_density = d_depth * density_step * tl.sigmoid(raw - 1.0)
        d_raw = _outputs(
            tl.where(found, d_density, 0.0),
            w * g_red * r * (1.0 - r),
            w * g_green * g * (1.0 - g),
            w * g_blue * b * (1.0 - b),
        )
        half = d_raw.to(w3.dtype)
        zero = tl.zeros([R, HIDDEN], tl.float32)
        d_h2 = tl.where(h2 > 0, product(half, tl.load(v3), zero, EMULATE), 0.0)
        half2 = d_h2.to(w3.dtype)
        tl.atomic_add(d_biases + HIDDEN + h, tl.sum(d_h2, 0), sem="relaxed")
        d_h1 = tl.where(h1 > 0, product(half2, tl.load(v2), zero, EMULATE), 0.0)
        half1 = d_h1.to(w3.dtype)
        tl.atomic_add(d_biases + h, tl.sum(d_h1, 0), sem="relaxed")
        if WEIGHTS:
            tl.atomic_add(d_b3 + o, tl.sum(d_raw, 0), sem="relaxed")
            _add(d_weights + third + o[None, :] * HIDDEN + h[:, None], product(tl.trans(h2), half, tl.zeros([HIDDEN, OUTPUTS], tl.float32), EMULATE))
            _add(d_weights + second, product(tl.trans(half2), h1, tl.zeros([HIDDEN, HIDDEN], tl.float32), EMULATE))
        ix, fx = plane_cell(qx, side)
        iy, fy = plane_cell(qy, side)
        iz, fz = plane_cell(qz, side)
        texel = plane_texel(ix, iy, 0, side)
        d_qx, d_qy = _plane_backward(planes, d_planes, texel, fx, fy, side, half1, v1, d_weights, found, PLANES, WEIGHTS, EMULATE)
        texel = plane_texel(iz, iy, 1, side)
        d_qz, more = _plane_backward(
            planes, d_planes, texel, fz, fy, side, half1, v1 + CHANNELS, d_weights + CHANNELS, found, PLANES, WEIGHTS, EMULATE
        )
        d_qy += more
        texel = plane_texel(ix, iz, 2, side)
        more_x, more_z = _plane_backward(
            planes, d_planes, texel, fx, fz, side, half1, v1 + 2 * CHANNELS, d_weights + 2 * CHANNELS, found, PLANES, WEIGHTS, EMULATE
        )
        texels = 0.5 * (side - 1).to(tl.float32)
        d_qx = tl.where(tl.abs(qx) <= 1.0, (d_qx + more_x) * texels, 0.0)
        d_qy = tl.where(tl.abs(qy) <= 1.0, d_qy * texels, 0.0)
        d_qz = tl.where(tl.abs(qz) <= 1.0, (d_qz + more_z) * texels, 0.0)
        d_px, d_py, d_pz = _warp_backward(
            warp, d_warp, nodes_x, nodes_y, nodes_z, constants, px, py, pz, d_qx, d_qy, d_qz, found
        )
        tl.atomic_add(d_rays, d_px, mask=found, sem="relaxed")
        tl.atomic_add(d_rays + 1, d_py, mask=found, sem="relaxed")
        tl.atomic_add(d_rays + 2, d_pz, mask=found, sem="relaxed")
        tl.atomic_add(d_rays + 3, t * d_px, mask=found, sem="relaxed")
        tl.atomic_add(d_rays + 4, t * d_py, mask=found, sem="relaxed")
        tl.atomic_add(d_rays + 5, t * d_pz, mask=found, sem="relaxed")
        k += 1.0
        left -= found.to(tl.int32)
        live = found & (left > 0)


@triton.jit
def _add(to, values):
    tl.atomic_add(to, values, sem="relaxed")


@triton.jit
def _whole(upstream, sums, there):
    """What all samples of each ray contribute (R,), and the final transmittance's gradient times it.

    The latter is what any more optical depth would take away.
    """
    total = tl.load(upstream, mask=there, other=0.0) * tl.load(sums, mask=there, other=0.0)
    total += tl.load(upstream + 1, mask=there, other=0.0) * tl.load(sums + 1, mask=there, other=0.0)
    total += tl.load(upstream + 2, mask=there, other=0.0) * tl.load(sums + 2, mask=there, other=0.0)
    total += tl.load(upstream + 4, mask=there, other=0.0) * tl.load(sums + 4, mask=there, other=0.0)
    total += tl.load(upstream + 5, mask=there, other=0.0) * tl.load(sums + 5, mask=there, other=0.0)
    return total, tl.load(upstream + 3, mask=there, other=0.0) * tl.load(sums + 3, mask=there, other=0.0)


@triton.jit
def _outputs(density, red, green, blue):
    """Four blocks (R,) as the first columns of (R, 16)."""
    o = tl.arange(0, OUTPUTS)[None, :]
    color = tl.where(o == 1, red[:, None], tl.where(o == 2, green[:, None], blue[:, None]))
    return tl.where(o == 0, density[:, None], tl.where(o < 4, color, 0.0))


@triton.jit
def _plane_backward(
    planes,
    d_planes,
    texel,
    f_col,
    f_row,
    side,
    d_h1,
    v1,
    d_weights,
    mask,
    PLANES: tl.constexpr,
    WEIGHTS: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Gradients of one plane's column and row fractions (R,), from those before the first ReLU (R, 64).

    `v1` points to the plane's columns (64, 16) of w1, `d_weights` to the first of their gradients. FIELD: adds to that and to the plane's.
    """
    d_feature = product(d_h1, tl.load(v1), tl.zeros([texel.shape[0], CHANNELS], tl.float32), EMULATE)
    offset = texel[:, None] + tl.arange(0, CHANNELS)[None, :]
    wanted, right, down = mask[:, None], f_col[:, None], f_row[:, None]
    at = planes + offset
    a = tl.load(at, mask=wanted, other=0.0).to(tl.float32)
    b = tl.load(at + CHANNELS, mask=wanted, other=0.0).to(tl.float32)
    c = tl.load(at + side * CHANNELS, mask=wanted, other=0.0).to(tl.float32)
    d = tl.load(at + (side + 1) * CHANNELS, mask=wanted, other=0.0).to(tl.float32)
    upper, lower = a + (b - a) * right, c + (d - c) * right
    d_down = tl.sum(d_feature * (lower - upper), 1)
    d_right = tl.sum(d_feature * ((b - a) * (1.0 - down) + (d - c) * down), 1)
    if WEIGHTS:
        first = tl.arange(0, HIDDEN)[:, None] * FEATURES + tl.arange(0, CHANNELS)[None, :]
        feature = (upper + (lower - upper) * down).to(d_h1.dtype)
        _add(d_weights + first, product(tl.trans(d_h1), feature, tl.zeros([HIDDEN, CHANNELS], tl.float32), EMULATE))
    if PLANES:
        to = d_planes + offset
        upper, lower = d_feature * (1.0 - down), d_feature * down
        tl.atomic_add(to, upper * (1.0 - right), mask=wanted, sem="relaxed")
        tl.atomic_add(to + CHANNELS, upper * right, mask=wanted, sem="relaxed")
        tl.atomic_add(to + side * CHANNELS, lower * (1.0 - right), mask=wanted, sem="relaxed")
        tl.atomic_add(to + (side + 1) * CHANNELS, lower * right, mask=wanted, sem="relaxed")
    return d_right, d_down


@triton.jit
def _corner(ix, iy, iz, fx, fy, fz, nodes_y, nodes_z, CORNER: tl.constexpr):
    """Node (R,) int32 of one of a cell's eight corners, and its weight along each axis, three blocks (R,)."""
    node = ((ix + CORNER // 4) * nodes_y + (iy + CORNER // 2 % 2)) * nodes_z + (iz + CORNER % 2)
    wx = fx if CORNER // 4 == 1 else 1.0 - fx
    wy = fy if CORNER // 2 % 2 == 1 else 1.0 - fy
    wz = fz if CORNER % 2 == 1 else 1.0 - fz
    return node * 3, wx, wy, wz


@triton.jit
def _warped(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, mask):
    """`triton_parts.warped`, corner by corner: a ray a lane, so that a ray's state takes one register."""
    ix, iy, iz, fx, fy, fz = warp_cell(px, py, pz, nodes_x, nodes_y, nodes_z, constants)
    qx, qy, qz = px, py, pz
    for corner in tl.static_range(8):
        node, wx, wy, wz = _corner(ix, iy, iz, fx, fy, fz, nodes_y, nodes_z, corner)
        weight = wx * wy * wz
        qx += tl.load(warp + node, mask=mask, other=0.0) * weight
        qy += tl.load(warp + node + 1, mask=mask, other=0.0) * weight
        qz += tl.load(warp + node + 2, mask=mask, other=0.0) * weight
    return qx, qy, qz


@triton.jit
def _warp_backward(warp, d_warp, nodes_x, nodes_y, nodes_z, constants, px, py, pz, d_qx, d_qy, d_qz, mask):
    """Gradient of the deformed position, three blocks (R,), from the canonical one's; adds to the nodes'."""
    ix, iy, iz, fx, fy, fz = warp_cell(px, py, pz, nodes_x, nodes_y, nodes_z, constants)
    d_x, d_y, d_z = tl.zeros_like(px), tl.zeros_like(px), tl.zeros_like(px)
    for corner in tl.static_range(8):
        node, wx, wy, wz = _corner(ix, iy, iz, fx, fy, fz, nodes_y, nodes_z, corner)
        weight = wx * wy * wz
        tl.atomic_add(d_warp + node, weight * d_qx, mask=mask, sem="relaxed")
        tl.atomic_add(d_warp + node + 1, weight * d_qy, mask=mask, sem="relaxed")
        tl.atomic_add(d_warp + node + 2, weight * d_qz, mask=mask, sem="relaxed")
        along = tl.load(warp + node, mask=mask, other=0.0) * d_qx
        along += tl.load(warp + node + 1, mask=mask, other=0.0) * d_qy
        along += tl.load(warp + node + 2, mask=mask, other=0.0) * d_qz
        d_x += along * wy * wz if corner // 4 == 1 else -along * wy * wz
        d_y += along * wx * wz if corner // 2 % 2 == 1 else -along * wx * wz
        d_z += along * wx * wy if corner % 2 == 1 else -along * wx * wy
    d_px = d_qx + _node_slope(d_x, px, nodes_x, constants, 0)
    d_py = d_qy + _node_slope(d_y, py, nodes_y, constants, 1)
    d_pz = d_qz + _node_slope(d_z, pz, nodes_z, constants, 2)
    return d_px, d_py, d_pz


@triton.jit
def _node_slope(d_frac, p, nodes, constants, axis: tl.constexpr):
    """A gradient per node spacing as one per unit length; none where the position is clamped to the warp's box."""
    lo, extent = tl.load(constants + WARP_LO + axis), tl.load(constants + WARP_EXTENT + axis)
    inside = (p >= lo) & (p <= lo + extent)
    return tl.where(inside, d_frac * (nodes - 1).to(tl.float32) / extent, 0.0)
