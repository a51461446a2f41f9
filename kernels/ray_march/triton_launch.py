"""Lays out tensors as the differentiable Triton kernels read them, and launches these."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from kernels.ray_march.arrays import FEATURES, HIDDEN
from kernels.ray_march.shapes_backward import (
    BACKWARD_RAYS,
    FORWARD_RAYS,
    FORWARD_WARPS,
    WEIGHTS_RAYS,
    backward_warps,
    weights_warps,
)
from kernels.ray_march.tensors import Volume
from kernels.ray_march.triton_backward import march_gradients_kernel, march_sums_kernel, march_weights_kernel

OUTPUTS = 16  # 4, padded to the narrowest tensor-core tile
CONSTANTS = 32
WEIGHT_COUNT = FEATURES * HIDDEN + HIDDEN * HIDDEN + HIDDEN * OUTPUTS
SUMS = 6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def launch_sums(
    counts: tuple[int, ...], volume: Volume, precision: str, heaviest: Tensor | None, tensors: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Sums (N, 6) and sample counts (N,) int32; `tensors` are the members of field, frames and rays in order."""
    arguments, sizes = _laid_out(volume, precision, tensors)
    total, device = len(tensors[8]), tensors[0].device
    sums = torch.empty(total, SUMS, device=device)
    samples = torch.empty(total, dtype=torch.int32, device=device)
    tiles = _tiles(counts, FORWARD_RAYS, str(device))
    if len(tiles):
        march_sums_kernel[(len(tiles),)](
            tiles,
            *arguments,
            sums,
            samples,
            samples if heaviest is None else heaviest,
            *sizes,
            R=FORWARD_RAYS,
            TRACK=heaviest is not None,
            EMULATE=_interpreted(),
            num_warps=FORWARD_WARPS,
            enable_fp_fusion=False,
        )
    return sums, samples


def launch_gradients(
    counts: tuple[int, ...],
    volume: Volume,
    precision: str,
    tensors: Sequence[Tensor],
    sums: Tensor,
    samples: Tensor,
    upstream: Tensor,  # (N, 6)
    *,
    field: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of `tensors` in order, float32; `field` False leaves those of planes, weights and the last bias out."""
    arguments, sizes = _laid_out(volume, precision, tensors)
    planes, bias1, warp = tensors[0], tensors[5], tensors[7]
    device, total = planes.device, len(tensors[8])
    d_planes = torch.zeros(planes.shape if field else (1,), device=device)
    d_weights = torch.zeros(WEIGHT_COUNT, device=device)
    d_b3 = torch.zeros(OUTPUTS, device=device)
    d_biases = torch.zeros(len(bias1), 2, HIDDEN, device=device)
    d_warp = torch.zeros(warp.shape, device=device)
    d_rays = torch.zeros(total, 6, device=device)
    origins, directions, t_near, _, *rest = arguments
    given = (origins, directions, t_near, *rest, _by_output(precision, tensors), sums, samples, upstream.contiguous())
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    tiles = _tiles(counts, BACKWARD_RAYS, str(device))
    if len(tiles):
        march_gradients_kernel[(len(tiles),)](
            tiles,
            *given,
            d_planes,
            d_biases,
            d_warp,
            d_rays,
            *sizes,
            R=BACKWARD_RAYS,
            PLANES=field,
            EMULATE=_interpreted(),
            num_warps=backward_warps(capability),
            enable_fp_fusion=False,
        )
    tiles = _tiles(counts, WEIGHTS_RAYS, str(device))
    if len(tiles) and field:
        march_weights_kernel[(len(tiles),)](
            tiles,
            *given,
            d_weights,
            d_b3,
            *sizes,
            R=WEIGHTS_RAYS,
            EMULATE=_interpreted(),
            num_warps=weights_warps(capability),
            enable_fp_fusion=False,
        )
    of_field: tuple[Tensor | None, ...] = (None,) * 5
    if field:
        of_field = (d_planes, *_unpacked(d_weights), d_b3[:4])
    d_origins, d_directions = d_rays[:, :3], d_rays[:, 3:]
    d_near = (d_origins * directions).sum(1)  # a sample moves along its ray with the entry
    return (*of_field, d_biases[:, 0], d_biases[:, 1], d_warp, d_origins, d_directions, d_near, None)


def _laid_out(volume: Volume, precision: str, tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The kernels' pointers from `origins` to `warp`, and their sizes."""
    planes, w1, w2, w3, b3, bias1, bias2, warp, origins, directions, t_near, t_far = (t.detach() for t in tensors)
    padded = functional.pad(w3.t(), (0, OUTPUTS - 4))
    weights = torch.cat([w1.t().flatten(), w2.t().flatten(), padded.flatten()]).to(DTYPES[precision])
    pointers = (
        *(part.float().contiguous() for part in (origins, directions, t_near, t_far)),
        volume.distance,
        _constants(volume, b3),
        planes.contiguous() if planes.dtype in (torch.float32, torch.float16) else planes.float().contiguous(),
        weights,
        torch.stack([bias1.float(), bias2.float()], 1),
        warp.float().contiguous(),
    )
    return pointers, (planes.shape[1], volume.grid, *warp.shape[1:4])


def _constants(volume: Volume, b3: Tensor) -> Tensor:
    """(32,) float32 as `triton_parts` numbers them; the box is the rays' business here."""
    lo, hi = torch.tensor(volume.warp_lo), torch.tensor(volume.warp_hi)
    numbers = torch.zeros(16)
    numbers[6:9], numbers[9:12] = lo, hi - lo
    numbers[12:15] = torch.tensor([volume.step, volume.termination, volume.density_scale * volume.step])
    last = functional.pad(b3.float(), (0, OUTPUTS - 4))
    return torch.cat([numbers.to(b3.device, non_blocking=True), last])


def _by_output(precision: str, tensors: Sequence[Tensor]) -> Tensor:
    """w1, w2 and w3 (padded to 16 rows), row = output, one after another."""
    _, w1, w2, w3, *_ = tensors
    padded = functional.pad(w3.detach(), (0, 0, 0, OUTPUTS - 4))
    return torch.cat([w1.detach().flatten(), w2.detach().flatten(), padded.flatten()]).to(DTYPES[precision])


def _unpacked(d_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of w1, w2, w3 from the weights' kernel: those of w1 and w2 have a row for each input."""
    first, second, third = d_weights.split([FEATURES * HIDDEN, HIDDEN * HIDDEN, OUTPUTS * HIDDEN])
    return first.view(FEATURES, HIDDEN).t(), second.view(HIDDEN, HIDDEN).t(), third.view(OUTPUTS, HIDDEN)[:4]


@lru_cache(maxsize=64)
def _tiles(counts: tuple[int, ...], size: int, device: str) -> Tensor:
    """(P, 3) int32: frame, first ray, one past the frame's last ray, of programs with `size` rays."""
    rows, first = [], 0
    for frame, count in enumerate(counts):
        rows += [(frame, start, first + count) for start in range(first, first + count, size)]
        first += count
    return torch.tensor(rows, dtype=torch.int32).view(-1, 3).to(device)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
