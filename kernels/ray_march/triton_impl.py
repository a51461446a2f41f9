"""The ray marcher as one Triton kernel: a program renders a tile of pixels of one slot, start to end."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.ray_march.triton_parts import (
    CONSTANTS,
    DENSITY_STEP,
    DISTANCE,
    GRID,
    HIDDEN,
    PLANES,
    SIDE,
    STEP,
    TERMINATION,
    WEIGHTS,
    box_entry_exit,
    field_features,
    hidden_layers,
    load_weights,
    next_sample,
    output_layer,
    ray_directions,
    ray_origin,
    sample_distance,
    shade,
    steps_per_voxel,
    tile_pixels,
    warped,
)


@triton.jit
def weights_pointer(address, PRECISION: tl.constexpr):
    """Pointer to a field's weights, whose type the table does not say."""
    if PRECISION == "fp16":
        return tl.multiple_of(address.to(tl.pointer_type(tl.float16)), 16)
    elif PRECISION == "bf16":
        return tl.multiple_of(address.to(tl.pointer_type(tl.bfloat16)), 16)
    else:
        return tl.multiple_of(address.to(tl.pointer_type(tl.float32)), 16)


@triton.jit
def march_kernel(
    fields,  # int64 (B, FIELD_WORDS): each slot's field
    cameras,  # float32 (B, 16)
    biases,  # float32 (B, 2, 64)
    warps,  # float32, the slots' warp grids (x, y, z, 3) wherever warp_table says
    warp_table,  # int64 (B, 4): offset in floats, nodes along x, y, z
    rgba,  # float32 (B, height, width, 4), written
    depth,  # float32 (B, height, width), written
    counts,  # int32 (B, height, width), written if COUNT: samples of each ray
    height,
    width,
    FIELD_WORDS: tl.constexpr,
    PRECISION: tl.constexpr,
    TILE_W: tl.constexpr,
    TILE_H: tl.constexpr,
    KEEP_WEIGHTS: tl.constexpr,
    COUNT: tl.constexpr,
    EMULATE: tl.constexpr,
):
    """Program (tile, slot): the rays of a tile walk together, each to its own next sample, until all have ended.

    A round ends with the features of the next samples, so that the loads are in flight when the next round begins.
    (The compiler also keeps texels in the layout of the loads that come last in the loop: features fetched at a
    round's start went through shared memory one texel at a time.)
    """
    slot = tl.program_id(1).to(tl.int64)
    field = fields + slot * FIELD_WORDS
    planes = tl.multiple_of(tl.load(field + PLANES).to(tl.pointer_type(tl.float16)), 16)
    distance = tl.load(field + DISTANCE).to(tl.pointer_type(tl.uint8))
    weights = weights_pointer(tl.load(field + WEIGHTS), PRECISION)
    constants = tl.multiple_of(tl.load(field + CONSTANTS).to(tl.pointer_type(tl.float32)), 16)
    side = tl.load(field + SIDE).to(tl.int32)
    grid = tl.load(field + GRID).to(tl.int32)
    warp = warps + tl.load(warp_table + slot * 4)
    nodes_x = tl.load(warp_table + slot * 4 + 1).to(tl.int32)
    nodes_y = tl.load(warp_table + slot * 4 + 2).to(tl.int32)
    nodes_z = tl.load(warp_table + slot * 4 + 3).to(tl.int32)
    camera = cameras + slot * 16
    bias = biases + slot * (2 * HIDDEN)
    step = tl.load(constants + STEP)
    termination = tl.load(constants + TERMINATION)
    density_step = tl.load(constants + DENSITY_STEP)

    x, y = tile_pixels(tl.program_id(0), width, TILE_W, TILE_H)
    inside = (x < width) & (y < height)
    ox, oy, oz = ray_origin(camera)
    dx, dy, dz = ray_directions(camera, x, y)
    near, far = box_entry_exit(ox, oy, oz, dx, dy, dz, constants)
    skip = steps_per_voxel(dx, dy, dz, step, grid)
    nothing = tl.zeros([TILE_W * TILE_H], tl.float32)
    left, red, green, blue, far_off, count = nothing + 1.0, nothing, nothing, nothing, nothing, nothing
    live = inside & (near < far)
    k, found = next_sample(ox, oy, oz, dx, dy, dz, near, far, nothing, live, skip, distance, grid, step)
    t = sample_distance(near, k, step)
    qx, qy, qz = warped(ox + t * dx, oy + t * dy, oz + t * dz, warp, nodes_x, nodes_y, nodes_z, constants, found)
    f0, f1, f2 = field_features(planes, side, qx, qy, qz, found)
    if KEEP_WEIGHTS:
        w1_0, w1_1, w1_2, w2, w3 = load_weights(weights)
    while tl.max(found.to(tl.int32), 0) > 0:
        if not KEEP_WEIGHTS:
            w1_0, w1_1, w1_2, w2, w3 = load_weights(weights)
        _, h2 = hidden_layers(f0, f1, f2, w1_0, w1_1, w1_2, w2, bias, EMULATE)
        alpha, r, g, b = shade(output_layer(h2, w3, constants, EMULATE), density_step)
        alpha = tl.where(found, alpha, 0.0)
        weight = left * alpha
        red, green, blue = red + weight * r, green + weight * g, blue + weight * b
        far_off += weight * sample_distance(near, k, step)
        left = left * (1.0 - alpha)
        if COUNT:
            count += found.to(tl.float32)
        live = found & (left > termination)
        k, found = next_sample(ox, oy, oz, dx, dy, dz, near, far, k + 1.0, live, skip, distance, grid, step)
        t = sample_distance(near, k, step)
        qx, qy, qz = warped(ox + t * dx, oy + t * dy, oz + t * dz, warp, nodes_x, nodes_y, nodes_z, constants, found)
        f0, f1, f2 = field_features(planes, side, qx, qy, qz, found)

    opacity = 1.0 - left
    scale = 1.0 / tl.where(left > termination, 1.0, opacity)
    pixel = (slot * height + y) * width + x
    color = tl.join(tl.join(red * scale, blue * scale), tl.join(green * scale, opacity * scale))
    channel = tl.arange(0, 4)[None, :]
    tl.store(rgba + pixel[:, None] * 4 + channel, color.reshape(TILE_W * TILE_H, 4), mask=inside[:, None])
    tl.store(depth + pixel, far_off * scale, mask=inside)
    if COUNT:
        tl.store(counts + pixel, count.to(tl.int32), mask=inside)
