"""Device functions of the ray marcher's backward pass: what `triton_parts` has, the other way.

"(R,)" is a block with a ray a lane, as there. Everything added goes to zeroed float32 buffers.
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
    WARP_EXTENT,
    WARP_LO,
    columns,
    field_features,
    hidden_layers,
    load_weights,
    next_sample,
    output_layer,
    product,
    sample_distance,
    softplus,
    steps_per_voxel,
    warp_cell,
)

FEATURES = tl.constexpr(48)
TILE_FIELDS = tl.constexpr(3)  # of a row of `tiles`: frame, first ray, one past the last
SUMS = tl.constexpr(6)  # red, green, blue, transmittance, sum of w u, sum of w u^2


@triton.jit
def load_rays(tiles, origins, directions, R: tl.constexpr):
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
def whole_ray(upstream, sums, there):
    """What all samples of each ray contribute to the loss, and what more optical depth would take away, summed (R,).

    The latter is the final transmittance's gradient times it.
    """
    total = tl.load(upstream, mask=there, other=0.0) * tl.load(sums, mask=there, other=0.0)
    for part in tl.static_range(1, 6):
        total += tl.load(upstream + part, mask=there, other=0.0) * tl.load(sums + part, mask=there, other=0.0)
    return total


@triton.jit
def load_walked_rays(tiles, origins, directions, t_near, samples, sums, upstream, R: tl.constexpr):
    """Rays that are walked again, as far as the forward pass went.

    Returns:
        Frame; rays, seven blocks (R,): origins, directions, entry distances; samples left of each (R,), pointers (R,)
        to the gradients of its sums, and `whole_ray`.
    """
    frame, ray, there, ox, oy, oz, dx, dy, dz = load_rays(tiles, origins, directions, R)
    near = tl.load(t_near + ray, mask=there, other=0.0)
    left = tl.load(samples + ray, mask=there, other=0)
    upstream += ray * SUMS
    sums += ray * SUMS
    behind = whole_ray(upstream, sums, there)
    return frame, (ox, oy, oz, dx, dy, dz, near), left, upstream, behind


@triton.jit
def next_inputs(rays, far, k, live, scene, weights):
    """The live rays' next samples, and what the MLP is given there.

    Args:
        rays: Seven blocks (R,), see `load_walked_rays`; `far` (R,) their ends.
        k: (R,) float32, the next sample that has not been looked at.
        scene: distance, grid, constants, planes, side, and the frame's warp, nodes_x, nodes_y and nodes_z.

    Returns:
        k (R,), whether a sample was found (R,), and features in the weights' type, three blocks (R, 16).
    """
    ox, oy, oz, dx, dy, dz, near = rays
    distance, grid, constants, planes, side, warp, nodes_x, nodes_y, nodes_z = scene
    step = tl.load(constants + STEP)
    skip = steps_per_voxel(dx, dy, dz, step, grid)
    k, found = next_sample(ox, oy, oz, dx, dy, dz, near, far, k, live, skip, distance, grid, step)
    t = sample_distance(near, k, step)
    px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
    qx, qy, qz = warped_by_corners(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, found)
    f0, f1, f2 = field_features(planes, side, qx, qy, qz, found)
    kind = weights.dtype.element_ty
    return k, found, f0.to(kind), f1.to(kind), f2.to(kind)


@triton.jit
def as_outputs(density, red, green, blue):
    """Four blocks (R,) as the first columns of (R, 16)."""
    o = tl.arange(0, OUTPUTS)[None, :]
    color = tl.where(o == 1, red[:, None], tl.where(o == 2, green[:, None], blue[:, None]))
    return tl.where(o == 0, density[:, None], tl.where(o < 4, color, 0.0))


@triton.jit
def _corner(ix, iy, iz, fx, fy, fz, nodes_y, nodes_z, CORNER: tl.constexpr):
    """Node (R,) int32 of one of a cell's eight corners, and its weight along each axis, three blocks (R,)."""
    node = ((ix + CORNER // 4) * nodes_y + (iy + CORNER // 2 % 2)) * nodes_z + (iz + CORNER % 2)
    wx = fx if CORNER // 4 == 1 else 1.0 - fx
    wy = fy if CORNER // 2 % 2 == 1 else 1.0 - fy
    wz = fz if CORNER % 2 == 1 else 1.0 - fz
    return node * 3, wx, wy, wz


@triton.jit
def warped_by_corners(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, mask):
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
def plane_backward(
    planes,
    d_planes,
    texel,
    f_col,
    f_row,
    side,
    d_h1,
    v1,
    mask,
    PLANES: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Gradients of one plane's column and row fractions (R,), from those before the first ReLU (R, 64).

    `v1` points to the plane's columns (64, 16) of w1. PLANES: adds to the plane's own gradient.
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
    if PLANES:
        to = d_planes + offset
        upper, lower = d_feature * (1.0 - down), d_feature * down
        tl.atomic_add(to, upper * (1.0 - right), mask=wanted, sem="relaxed")
        tl.atomic_add(to + CHANNELS, upper * right, mask=wanted, sem="relaxed")
        tl.atomic_add(to + side * CHANNELS, lower * (1.0 - right), mask=wanted, sem="relaxed")
        tl.atomic_add(to + (side + 1) * CHANNELS, lower * right, mask=wanted, sem="relaxed")
    return d_right, d_down


@triton.jit
def warp_backward(warp, d_warp, nodes_x, nodes_y, nodes_z, constants, px, py, pz, d_qx, d_qy, d_qz, mask):
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


@triton.jit
def voxel_at(px, py, pz, grid):
    """Flat voxel index (R,) of positions, as `next_sample` looks them up."""
    scale = 0.5 * grid.to(tl.float32)
    ix = tl.minimum(tl.maximum(((px + 1.0) * scale).to(tl.int32), 0), grid - 1)
    iy = tl.minimum(tl.maximum(((py + 1.0) * scale).to(tl.int32), 0), grid - 1)
    iz = tl.minimum(tl.maximum(((pz + 1.0) * scale).to(tl.int32), 0), grid - 1)
    return (ix * grid + iy) * grid + iz


@triton.jit
def network_backward(
    f0, f1, f2, weights, biases, transposed, constants, upstream, k, through, behind, found, EMULATE: tl.constexpr
):
    """One sample of each ray through network and compositing, forward and back.

    Args:
        upstream: Pointers (R,) to the gradients of each ray's sums.
        k: (R,) the sample's number; `through` the transmittance before it, `behind` see `whole_ray`.

    Returns:
        through and behind after the sample; h1, h2 (R, 64); gradients of raw outputs (R, 16), h2 and h1 before ReLU.
    """
    step, density_step = tl.load(constants + STEP), tl.load(constants + DENSITY_STEP)
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
    value = g_red * r + g_green * g + g_blue * b
    value += tl.load(upstream + 4, mask=found, other=0.0) * u
    value += tl.load(upstream + 5, mask=found, other=0.0) * u * u
    behind -= w * value
    d_depth = through * value - behind
    d_raw = as_outputs(
        tl.where(found, d_depth * density_step * tl.sigmoid(raw - 1.0), 0.0),
        w * g_red * r * (1.0 - r),
        w * g_green * g * (1.0 - g),
        w * g_blue * b * (1.0 - b),
    )
    h, o = tl.arange(0, HIDDEN), tl.arange(0, OUTPUTS)
    second = transposed + HIDDEN * FEATURES
    third = second + HIDDEN * HIDDEN
    zero = tl.zeros([k.shape[0], HIDDEN], tl.float32)
    v3 = tl.load(third + o[:, None] * HIDDEN + h[None, :])
    d_h2 = tl.where(h2 > 0, product(d_raw.to(v3.dtype), v3, zero, EMULATE), 0.0)
    v2 = tl.load(second + h[:, None] * HIDDEN + h[None, :])
    d_h1 = tl.where(h1 > 0, product(d_h2.to(v2.dtype), v2, zero, EMULATE), 0.0)
    return through, behind, h1, h2, d_raw, d_h2, d_h1
