"""Device functions of the Triton ray marcher: rays, empty space, warp, planes, MLP, shading.

Each works on one tile of R rays; "(R,)" is a block with a ray a lane. Equations and sample positions are those of
`reference.py` (NeRF, Mildenhall et al. 2020, Eq. 3). Kernels that use them are launched with
`enable_fp_fusion=False`: a multiplication and an addition fused into one rounding would move a sample across a
voxel's face. Where a fused operation is welcome it is written out as `tl.fma`. For the same reason quotients and
square roots of positions are `div_rn` and `sqrt_rn`; `/` is approximate on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Indices of a field's row in the table of fields, int64 (kernels.ray_march.prepared).
PLANES = tl.constexpr(0)  # address of fp16 (3, side, side, 16)
DISTANCE = tl.constexpr(1)  # address of uint8 (grid, grid, grid): Chebyshev distance to matter, 0 = occupied
WEIGHTS = tl.constexpr(2)  # address of w1 (48, 64), w2 (64, 64), w3 (64, 16), row = input, one after another
CONSTANTS = tl.constexpr(3)  # address of float32 (32,), see below
SIDE = tl.constexpr(4)  # texels a side
GRID = tl.constexpr(5)  # voxels a side

# Indices of a field's constants, float32.
BOX_LO = tl.constexpr(0)  # 3: the box of the occupied voxels; empty (lo = hi) where there are none
BOX_HI = tl.constexpr(3)
WARP_LO = tl.constexpr(6)  # 3: the box of the warp grid
WARP_EXTENT = tl.constexpr(9)  # 3: its sides
STEP = tl.constexpr(12)
TERMINATION = tl.constexpr(13)
DENSITY_STEP = tl.constexpr(14)  # density_scale * step
B3 = tl.constexpr(16)  # 16: the last bias, padded with zeros

CHANNELS = tl.constexpr(16)  # of a plane
HIDDEN = tl.constexpr(64)
OUTPUTS = tl.constexpr(16)  # 4, padded to the narrowest tensor-core tile

FOCAL = tl.constexpr(12)  # index of fx, fy, cx, cy in a camera (16,); before them cam_to_canonical (3, 4)
TINY_DIRECTION = tl.constexpr(1e-9)


@triton.jit
def tile_pixels(tile, width, TILE_W: tl.constexpr, TILE_H: tl.constexpr):
    """Pixel columns and rows (R,) int32 of a tile, R = TILE_W * TILE_H; tiles go row by row over the picture."""
    lane = tl.arange(0, TILE_W * TILE_H)
    tiles_x = tl.cdiv(width, TILE_W)
    return (tile % tiles_x) * TILE_W + lane % TILE_W, (tile // tiles_x) * TILE_H + lane // TILE_W


@triton.jit
def ray_origin(camera):
    """Camera centre: three scalars. `camera` points to float32 (16,): cam_to_canonical (3, 4), fx, fy, cx, cy."""
    return tl.load(camera + 3), tl.load(camera + 7), tl.load(camera + 11)


@triton.jit
def ray_directions(camera, x, y):
    """Unit directions through the centres of pixels x, y (R,), three blocks (R,)."""
    u = tl.div_rn(x.to(tl.float32) + 0.5 - tl.load(camera + FOCAL + 2), tl.load(camera + FOCAL))
    v = tl.div_rn(y.to(tl.float32) + 0.5 - tl.load(camera + FOCAL + 3), tl.load(camera + FOCAL + 1))
    squared = (u * u + v * v) + 1.0
    scale = tl.div_rn(tl.full(squared.shape, 1.0, tl.float32), tl.sqrt_rn(squared))
    dx = ((tl.load(camera) * u + tl.load(camera + 1) * v) + tl.load(camera + 2)) * scale
    dy = ((tl.load(camera + 4) * u + tl.load(camera + 5) * v) + tl.load(camera + 6)) * scale
    dz = ((tl.load(camera + 8) * u + tl.load(camera + 9) * v) + tl.load(camera + 10)) * scale
    return dx, dy, dz


@triton.jit
def _slab(o, d, lo, hi):
    safe = tl.where(tl.abs(d) < TINY_DIRECTION, TINY_DIRECTION, d)
    first, second = tl.div_rn(lo - o, safe), tl.div_rn(hi - o, safe)
    return tl.minimum(first, second), tl.maximum(first, second)


@triton.jit
def box_entry_exit(ox, oy, oz, dx, dy, dz, constants):
    """Distances (R,) at which rays enter (not before 0) and leave the box of matter; entry >= exit is a miss."""
    near_x, far_x = _slab(ox, dx, tl.load(constants + BOX_LO), tl.load(constants + BOX_HI))
    near_y, far_y = _slab(oy, dy, tl.load(constants + BOX_LO + 1), tl.load(constants + BOX_HI + 1))
    near_z, far_z = _slab(oz, dz, tl.load(constants + BOX_LO + 2), tl.load(constants + BOX_HI + 2))
    near = tl.maximum(tl.maximum(tl.maximum(near_x, near_y), near_z), 0.0)
    return near, tl.minimum(tl.minimum(far_x, far_y), far_z)


@triton.jit
def sample_distance(near, k, step):
    """Distance (R,) of sample k (R,) float32 from the camera: the samples stand at the middles of whole steps."""
    return near + (k + 0.5) * step


@triton.jit
def steps_per_voxel(dx, dy, dz, step, grid):
    """Whole steps (R,) that are surely taken while a ray crosses one voxel's width along its widest axis."""
    widest = tl.maximum(tl.maximum(tl.abs(dx), tl.abs(dy)), tl.abs(dz))
    return 0.9999 / (widest * (step * (0.5 * grid.to(tl.float32))))


@triton.jit
def next_sample(ox, oy, oz, dx, dy, dz, near, far, k, live, skip, distance, grid, step):
    """Move the live rays on to their next sample in an occupied voxel.

    Where the nearest matter is D voxels away, D - 1 voxels around are empty and their steps are taken at once.

    Args:
        k: (R,) float32, the next sample that has not been looked at.
        live: (R,) bool, rays to move. The others stay.
        skip: `steps_per_voxel`.
        distance: Pointer to uint8 (grid, grid, grid).

    Returns:
        k (R,) of the sample found, and whether one was found (R,) bool.
    """
    half, last = 0.5 * grid.to(tl.float32), grid - 1
    looking = live
    found = live & (k < 0.0)
    while tl.max(looking.to(tl.int32), 0) > 0:
        t = sample_distance(near, k, step)
        looking = looking & (t < far)
        ix = tl.minimum(tl.maximum((((ox + t * dx) + 1.0) * half).to(tl.int32), 0), last)
        iy = tl.minimum(tl.maximum((((oy + t * dy) + 1.0) * half).to(tl.int32), 0), last)
        iz = tl.minimum(tl.maximum((((oz + t * dz) + 1.0) * half).to(tl.int32), 0), last)
        index = (ix * grid + iy) * grid + iz
        empty = tl.load(distance + index, mask=looking, other=1).to(tl.float32)
        hit = looking & (empty == 0.0)
        found = found | hit
        looking = looking & (empty > 0.0)
        k = tl.where(looking, k + (tl.floor((empty - 1.0) * skip) + 1.0), k)
    return k, found


@triton.jit
def grid_cell(where, nodes):
    """Lower node (R,) int32 and fraction (R,) of grid coordinates (R,), clamped to 0 .. nodes - 1; nodes >= 2."""
    inside = tl.minimum(tl.maximum(where, 0.0), (nodes - 1).to(tl.float32))
    low = tl.minimum(inside.to(tl.int32), nodes - 2)
    return low, inside - low.to(tl.float32)


@triton.jit
def warp_cell(px, py, pz, nodes_x, nodes_y, nodes_z, constants):
    """Lower nodes and fractions of positions in the warp grid: ix, iy, iz int32 and fx, fy, fz (R,)."""
    wx = (px - tl.load(constants + WARP_LO)) / tl.load(constants + WARP_EXTENT)
    wy = (py - tl.load(constants + WARP_LO + 1)) / tl.load(constants + WARP_EXTENT + 1)
    wz = (pz - tl.load(constants + WARP_LO + 2)) / tl.load(constants + WARP_EXTENT + 2)
    ix, fx = grid_cell(wx * (nodes_x - 1).to(tl.float32), nodes_x)
    iy, fy = grid_cell(wy * (nodes_y - 1).to(tl.float32), nodes_y)
    iz, fz = grid_cell(wz * (nodes_z - 1).to(tl.float32), nodes_z)
    return ix, iy, iz, fx, fy, fz


@triton.jit
def warp_corners(ix, iy, iz, fx, fy, fz, nodes_y, nodes_z):
    """Index of the node (R, 8) int32 and its trilinear weight (R, 8); corner c is (c / 4, c / 2 % 2, c % 2)."""
    corner = tl.arange(0, 8)
    bx, by, bz = (corner // 4)[None, :], ((corner // 2) % 2)[None, :], (corner % 2)[None, :]
    node = ((ix[:, None] + bx) * nodes_y + (iy[:, None] + by)) * nodes_z + (iz[:, None] + bz)
    weight_x = tl.where(bx == 1, fx[:, None], 1.0 - fx[:, None])
    weight_y = tl.where(by == 1, fy[:, None], 1.0 - fy[:, None])
    weight_z = tl.where(bz == 1, fz[:, None], 1.0 - fz[:, None])
    return node, weight_x * weight_y * weight_z


@triton.jit
def warped(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, mask):
    """Canonical positions p + warp(p), three blocks (R,): trilinear in the warp grid, clamped to its box.

    Args:
        warp: Pointer to float32 (nodes_x, nodes_y, nodes_z, 3).
        mask: (R,) bool; nothing is read for the others, which stay where they are.
    """
    ix, iy, iz, fx, fy, fz = warp_cell(px, py, pz, nodes_x, nodes_y, nodes_z, constants)
    node, weight = warp_corners(ix, iy, iz, fx, fy, fz, nodes_y, nodes_z)
    at, wanted = warp + node * 3, mask[:, None]
    qx = px + tl.sum(tl.load(at, mask=wanted, other=0.0) * weight, 1)
    qy = py + tl.sum(tl.load(at + 1, mask=wanted, other=0.0) * weight, 1)
    qz = pz + tl.sum(tl.load(at + 2, mask=wanted, other=0.0) * weight, 1)
    return qx, qy, qz


@triton.jit
def plane_cell(q, side):
    """Lower texel (R,) int32 and fraction (R,) of a canonical coordinate (R,) in a plane of `side` texels."""
    return grid_cell((q + 1.0) * (0.5 * (side - 1).to(tl.float32)), side)


@triton.jit
def plane_texel(col, row, plane: tl.constexpr, side):
    """Offset (R,) int32 of a texel's first channel; the planes' columns and rows are (x, y), (z, y), (x, z)."""
    return ((plane * side + row) * side + col) * CHANNELS


@triton.jit
def plane_features(planes, texel, f_col, f_row, side, mask):
    """Bilinear samples (R, 16) float32 of one plane.

    Args:
        planes: Pointer to (3, side, side, 16), any float type.
        texel: `plane_texel` of the lower corner; f_col, f_row (R,) the fractions.
        mask: (R,) bool; features of the others are 0.
    """
    at = planes + texel[:, None] + tl.arange(0, CHANNELS)[None, :]
    wanted, right, down = mask[:, None], f_col[:, None], f_row[:, None]
    a = tl.load(at, mask=wanted, other=0.0).to(tl.float32)
    b = tl.load(at + CHANNELS, mask=wanted, other=0.0).to(tl.float32)
    upper = tl.fma(b - a, right + tl.zeros_like(a), a)
    c = tl.load(at + side * CHANNELS, mask=wanted, other=0.0).to(tl.float32)
    d = tl.load(at + (side + 1) * CHANNELS, mask=wanted, other=0.0).to(tl.float32)
    lower = tl.fma(d - c, right + tl.zeros_like(a), c)
    return tl.fma(lower - upper, down + tl.zeros_like(a), upper)


@triton.jit
def field_features(planes, side, qx, qy, qz, mask):
    """Features of the three planes at canonical positions: three blocks (R, 16) float32."""
    ix, fx = plane_cell(qx, side)
    iy, fy = plane_cell(qy, side)
    iz, fz = plane_cell(qz, side)
    f0 = plane_features(planes, plane_texel(ix, iy, 0, side), fx, fy, side, mask)
    f1 = plane_features(planes, plane_texel(iz, iy, 1, side), fz, fy, side, mask)
    f2 = plane_features(planes, plane_texel(ix, iz, 2, side), fx, fz, side, mask)
    return f0, f1, f2


@triton.jit
def product(a, b, acc, EMULATE: tl.constexpr):
    """acc + a @ b, summed in float32. (Float32 factors as three TF32 products take four times the registers.)

    EMULATE is for the interpreter, which multiplies bfloat16 wrongly: products of bfloat16 are exact in float32.
    """
    if EMULATE:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def load_weights(weights):
    """w1 as three blocks (16, 64), one a plane, w2 (64, 64) and w3 (64, 16), row = input, in their own type."""
    c, h, o = tl.arange(0, CHANNELS), tl.arange(0, HIDDEN), tl.arange(0, OUTPUTS)
    first = weights + c[:, None] * HIDDEN + h[None, :]
    second = weights + 3 * CHANNELS * HIDDEN
    third = second + HIDDEN * HIDDEN
    w1_0 = tl.load(first)
    w1_1 = tl.load(first + CHANNELS * HIDDEN)
    w1_2 = tl.load(first + 2 * CHANNELS * HIDDEN)
    w2 = tl.load(second + h[:, None] * HIDDEN + h[None, :])
    w3 = tl.load(third + h[:, None] * OUTPUTS + o[None, :])
    return w1_0, w1_1, w1_2, w2, w3


@triton.jit
def hidden_layers(f0, f1, f2, w1_0, w1_1, w1_2, w2, biases, EMULATE: tl.constexpr):
    """Activations h1, h2 (R, 64) after ReLU, in the weights' type. `biases` points to float32 (2, 64)."""
    h = tl.arange(0, HIDDEN)
    zero = tl.zeros([f0.shape[0], HIDDEN], tl.float32)
    acc = zero + tl.load(biases + h)[None, :]
    acc = product(f0.to(w1_0.dtype), w1_0, acc, EMULATE)
    acc = product(f1.to(w1_0.dtype), w1_1, acc, EMULATE)
    acc = product(f2.to(w1_0.dtype), w1_2, acc, EMULATE)
    h1 = tl.maximum(acc, 0.0).to(w2.dtype)
    acc = product(h1, w2, zero + tl.load(biases + HIDDEN + h)[None, :], EMULATE)
    return h1, tl.maximum(acc, 0.0).to(w2.dtype)


@triton.jit
def output_layer(h2, w3, constants, EMULATE: tl.constexpr):
    """Raw outputs (R, 16) float32: density, red, green, blue, and zeros."""
    bias = tl.load(constants + B3 + tl.arange(0, OUTPUTS))
    return product(h2, w3, tl.zeros([h2.shape[0], OUTPUTS], tl.float32) + bias[None, :], EMULATE)


@triton.jit
def columns(raw):
    """The four outputs of raw (R, 16), each (R,).

    A gather, and no sums of masked columns: those would spread the layout of tensor-core results over all that
    depends on a ray, and every texel would be moved through shared memory into it.
    """
    first = tl.zeros([raw.shape[0], 4], tl.int32) + tl.arange(0, 4)[None, :]
    even, odd = tl.split(tl.gather(raw, first, 1).reshape(raw.shape[0], 2, 2))
    density, green = tl.split(even)
    red, blue = tl.split(odd)
    return density, red, green, blue


@triton.jit
def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def shade(raw, density_step):
    """Opacity and colour of samples from raw outputs (R, 16): alpha, red, green, blue, each (R,), 0..1."""
    density, red, green, blue = columns(raw)
    alpha = 1.0 - tl.exp(-density_step * softplus(density - 1.0))
    return alpha, tl.sigmoid(red), tl.sigmoid(green), tl.sigmoid(blue)
