"""The radiance field in eager torch, on the samples that the ray marcher evaluates: what a kernel is compared with.

The same arithmetic as `kernels.ray_march.reference` (equations there) in torch's own operators and precision: two
`grid_sample`s and three linear layers over all samples of a frame at once. Marching is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kernels.ray_march import FieldArrays, FrameInputs
from kernels.ray_march.frame_occupancy import frame_occupancy
from kernels.ray_march.reference import box_entry_exit, camera_rays, evaluate_field, is_occupied


@dataclass(frozen=True)
class FrameSamples:
    """The samples of one frame, step after step."""

    points: NDArray[np.float32]  # (N, 3) deformed positions
    rays: list[NDArray[np.int64]]  # of each step: the rays sampled, N in all
    num_rays: int


def frame_samples(field: FieldArrays, frame: FrameInputs) -> FrameSamples:
    """Where the reference evaluates the field in a frame; rays end where it ends them.

    Raises:
        ValueError: Nothing is occupied.
    """
    box = field.occupied_box()
    if box is None:
        raise ValueError("the field is empty: no voxel is occupied")
    origin, dirs = camera_rays(frame)
    near, far = box_entry_exit(origin, dirs, *box)
    occupancy = frame_occupancy(field, frame)
    transmittance = np.ones(len(dirs))
    points, rays = [], []
    for k in range(int(np.ceil(max(0.0, float((far - near).max())) / field.step)) + 1):
        t = near + (np.float32(k) + np.float32(0.5)) * np.float32(field.step)
        live = np.flatnonzero((t < far) & (near < far) & (transmittance > field.termination))
        p = origin + t[live, None] * dirs[live]
        occupied = is_occupied(occupancy, p)
        sigma, _ = evaluate_field(field, frame, p[occupied])
        transmittance[live[occupied]] *= np.exp(-sigma * field.step)
        points.append(p[occupied])
        rays.append(live[occupied])
    return FrameSamples(np.concatenate(points), rays, len(dirs))


class EagerField:
    """One frame's field; the MLP runs in `dtype`, fetches in float32 (grid_sample has no bfloat16 on CPUs)."""

    def __init__(self, field: FieldArrays, frame: FrameInputs, dtype: torch.dtype) -> None:
        self._field = field
        self._dtype = dtype
        self._lo, self._hi = torch.tensor(field.warp_lo), torch.tensor(field.warp_hi)
        self._warp = torch.tensor(frame.warp).permute(3, 2, 1, 0)[None].contiguous()
        self._planes = torch.tensor(field.planes.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
        weights = ((field.w1, frame.bias1), (field.w2, frame.bias2), (field.w3, field.b3))
        self._layers = [(torch.tensor(w).to(dtype), torch.tensor(b).to(dtype)) for w, b in weights]

    @torch.inference_mode()
    def outputs(self, points: Tensor) -> Tensor:
        """(N, 4) outputs before softplus and sigmoid, float32, at deformed positions (N, 3)."""
        grid = (points - self._lo) / (self._hi - self._lo) * 2 - 1
        moved = points + _fetch(self._warp, grid[None, :, None, None])[0].t()
        x, y, z = moved.unbind(-1)
        places = torch.stack([torch.stack([x, y], -1), torch.stack([z, y], -1), torch.stack([x, z], -1)])
        rows = _fetch(self._planes, places[:, :, None]).permute(2, 0, 1).reshape(len(points), -1).to(self._dtype)
        (w1, b1), (w2, b2), (w3, b3) = self._layers
        hidden = functional.relu(functional.linear(rows, w1, b1))
        hidden = functional.relu(functional.linear(hidden, w2, b2))
        return functional.linear(hidden, w3, b3).float()

    def picture(self, samples: FrameSamples, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Premultiplied RGBA (H, W, 4) from the outputs, composited in float64 (NeRF, Eq. 3)."""
        raw = self.outputs(torch.tensor(samples.points)).double().numpy()
        sigma = self._field.density_scale * np.logaddexp(0.0, raw[:, 0] - 1.0)
        alpha, color = 1.0 - np.exp(-sigma * self._field.step), 1.0 / (1.0 + np.exp(-raw[:, 1:]))
        rgb, transmittance, start = np.zeros((samples.num_rays, 3)), np.ones(samples.num_rays), 0
        for rays in samples.rays:
            a, c = alpha[start : start + len(rays)], color[start : start + len(rays)]
            rgb[rays] += (transmittance[rays] * a)[:, None] * c
            transmittance[rays] *= 1.0 - a
            start += len(rays)
        rgba = np.concatenate([rgb, 1.0 - transmittance[:, None]], axis=1)
        ended = transmittance <= self._field.termination
        rgba[ended] /= 1.0 - transmittance[ended, None]
        return rgba.reshape(*shape, 4).astype(np.float32)


def _fetch(grid: Tensor, places: Tensor) -> Tensor:
    """Linear samples, corners aligned, coordinates clamped: (B, C, N)."""
    found = functional.grid_sample(grid, places, mode="bilinear", padding_mode="border", align_corners=True)
    return found.flatten(2)
