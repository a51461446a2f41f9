"""Triton kernels of the differentiable ray marcher: sums along rays, and their gradients.

The backward pass stores nothing per sample. It walks each ray again from the front, as many samples as the forward
pass took, and knows what lies behind a sample as the saved total less what has been passed (README.md, "Backward").
Two kernels share the work, for one would not find room in a thread's registers: one follows the gradient to planes,
biases, warp and rays, one adds up that of the weights, of which the widest layer's sums stay in registers. What is
added by atomics differs in its last digits from run to run.
Rays of a program belong to one frame.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.ray_march.triton_gradients import (
    FEATURES,
    SUMS,
    load_rays,
    load_walked_rays,
    network_backward,
    next_inputs,
    plane_backward,
    voxel_at,
    warp_backward,
    warped_by_corners,
    whole_ray,
)
from kernels.ray_march.triton_parts import (
    CHANNELS,
    DENSITY_STEP,
    HIDDEN,
    OUTPUTS,
    STEP,
    TERMINATION,
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
    steps_per_voxel,
)


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
    frame, ray, there, ox, oy, oz, dx, dy, dz = load_rays(tiles, origins, directions, R)
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
        qx, qy, qz = warped_by_corners(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, found)
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
            tl.atomic_max(heaviest + voxel_at(px, py, pz, grid), w, mask=found, sem="relaxed")
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
def march_gradients_kernel(
    tiles,
    origins,
    directions,
    t_near,
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
    EMULATE: tl.constexpr,
):
    """Gradients of biases, warp and rays (N, 6: origin, direction), with PLANES of the planes, from one tile's rays.

    `upstream` (N, 6) are the gradients of the sums; `transposed` holds w1 (64, 48), w2 and w3 (16, 64), row = output.
    """
    frame, ray, there, ox, oy, oz, dx, dy, dz = load_rays(tiles, origins, directions, R)
    near = tl.load(t_near + ray, mask=there, other=0.0)
    far = near + 1e9  # the count of samples ends a ray
    left = tl.load(samples + ray, mask=there, other=0)
    biases += frame * 2 * HIDDEN
    d_biases += frame * 2 * HIDDEN
    warp_offset = frame * nodes_x * nodes_y * nodes_z * 3
    warp += warp_offset
    d_warp += warp_offset
    d_rays += ray * 6
    c, h = tl.arange(0, CHANNELS), tl.arange(0, HIDDEN)
    v1 = transposed + h[:, None] * FEATURES + c[None, :]
    step = tl.load(constants + STEP)
    skip = steps_per_voxel(dx, dy, dz, step, grid)
    upstream += ray * SUMS
    behind = whole_ray(upstream, sums + ray * SUMS, there)
    k = tl.zeros([R], tl.float32)
    through = k + 1.0
    live = left > 0
    while tl.max(live.to(tl.int32), 0) > 0:
        k, found = next_sample(ox, oy, oz, dx, dy, dz, near, far, k, live, skip, distance, grid, step)
        t = sample_distance(near, k, step)
        px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
        qx, qy, qz = warped_by_corners(px, py, pz, warp, nodes_x, nodes_y, nodes_z, constants, found)
        f0, f1, f2 = field_features(planes, side, qx, qy, qz, found)
        through, behind, _, _, _, d_h2, d_h1 = network_backward(
            f0, f1, f2, weights, biases, transposed, constants, upstream, k, through, behind, found, EMULATE
        )
        tl.atomic_add(d_biases + HIDDEN + h, tl.sum(d_h2, 0), sem="relaxed")
        tl.atomic_add(d_biases + h, tl.sum(d_h1, 0), sem="relaxed")
        half = d_h1.to(weights.dtype.element_ty)
        ix, fx = plane_cell(qx, side)
        iy, fy = plane_cell(qy, side)
        iz, fz = plane_cell(qz, side)
        at = plane_texel(ix, iy, 0, side)
        d_qx, d_qy = plane_backward(planes, d_planes, at, fx, fy, side, half, v1, found, PLANES, EMULATE)
        at = plane_texel(iz, iy, 1, side)
        d_qz, more_y = plane_backward(planes, d_planes, at, fz, fy, side, half, v1 + CHANNELS, found, PLANES, EMULATE)
        at, v1_2 = plane_texel(ix, iz, 2, side), v1 + 2 * CHANNELS
        more_x, more_z = plane_backward(planes, d_planes, at, fx, fz, side, half, v1_2, found, PLANES, EMULATE)
        texels = 0.5 * (side - 1).to(tl.float32)
        d_qx = tl.where(tl.abs(qx) <= 1.0, (d_qx + more_x) * texels, 0.0)
        d_qy = tl.where(tl.abs(qy) <= 1.0, (d_qy + more_y) * texels, 0.0)
        d_qz = tl.where(tl.abs(qz) <= 1.0, (d_qz + more_z) * texels, 0.0)
        d_px, d_py, d_pz = warp_backward(
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
def march_weights_kernel(
    tiles,
    origins,
    directions,
    t_near,
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
    d_weights,
    d_b3,
    side,
    grid,
    nodes_x,
    nodes_y,
    nodes_z,
    R: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Gradients of the weights and of the last bias (16,), from one tile's rays: d_weights holds those of w1 and w2
    as `weights` does (row = input), that of w3 as `transposed` does.

    The next samples' features are fetched at the end of a round: carried into the next they have one layout, and both
    products that want them take it from there. Products are 64 columns wide, so that warps divide columns among
    themselves; with 64 rows each warp would repeat the products of the 16 rays, and take the registers for them.
    """
    frame, rays, left, upstream, behind = load_walked_rays(
        tiles, origins, directions, t_near, samples, sums, upstream, R
    )
    far = rays[6] + 1e9  # the count of samples ends a ray
    biases += frame * 2 * HIDDEN
    warp += frame * nodes_x * nodes_y * nodes_z * 3
    scene = (distance, grid, constants, planes, side, warp, nodes_x, nodes_y, nodes_z)
    k = tl.zeros([R], tl.float32)
    through = k + 1.0
    c, h, o = tl.arange(0, CHANNELS), tl.arange(0, HIDDEN), tl.arange(0, OUTPUTS)
    first = d_weights + c[:, None] * HIDDEN + h[None, :]
    second = d_weights + FEATURES * HIDDEN
    third = second + HIDDEN * HIDDEN + o[:, None] * HIDDEN + h[None, :]
    s2 = tl.zeros([HIDDEN, HIDDEN], tl.float32)
    kind = weights.dtype.element_ty
    k, live, f0, f1, f2 = next_inputs(rays, far, k, left > 0, scene, weights)
    while tl.max(live.to(tl.int32), 0) > 0:
        through, behind, h1, h2, d_raw, d_h2, d_h1 = network_backward(
            f0, f1, f2, weights, biases, transposed, constants, upstream, k, through, behind, live, EMULATE
        )
        tl.atomic_add(d_b3 + o, tl.sum(d_raw, 0), sem="relaxed")
        none = tl.zeros([CHANNELS, HIDDEN], tl.float32)
        tl.atomic_add(third, product(tl.trans(d_raw.to(kind)), h2, none, EMULATE), sem="relaxed")
        s2 = product(tl.trans(h1), d_h2.to(kind), s2, EMULATE)
        half = d_h1.to(kind)
        tl.atomic_add(first, product(tl.trans(f0), half, none, EMULATE), sem="relaxed")
        first_1, first_2 = first + CHANNELS * HIDDEN, first + 2 * CHANNELS * HIDDEN
        tl.atomic_add(first_1, product(tl.trans(f1), half, none, EMULATE), sem="relaxed")
        tl.atomic_add(first_2, product(tl.trans(f2), half, none, EMULATE), sem="relaxed")
        left -= live.to(tl.int32)
        k, live, f0, f1, f2 = next_inputs(rays, far, k + 1.0, live & (left > 0), scene, weights)
    tl.atomic_add(second + h[:, None] * HIDDEN + h[None, :], s2, sem="relaxed")
