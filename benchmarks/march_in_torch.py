"""The ray march in plain torch, as fast as torch does it without a kernel: what bench_march_gpu.py compares with.

All samples of all rays are made, the occupied ones are picked and evaluated in one piece, then composited. Rays do
not end early in time; the samples after the end weigh nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.ray_march import FieldArrays, FrameInputs
from kernels.ray_march.reference import box_entry_exit, camera_rays


class TorchMarcher:
    """One field and frame on a device; `render` gives premultiplied RGBA (H * W, 4) float32."""

    def __init__(self, field: FieldArrays, frame: FrameInputs, device: str, dtype: torch.dtype) -> None:
        def put(array: object, kind: torch.dtype | None = None) -> Tensor:
            return torch.as_tensor(array, device=device).to(kind or torch.float32)

        origin, directions = camera_rays(frame)
        box = field.occupied_box()
        assert box is not None, "an empty field is not worth a benchmark"
        near, far = box_entry_exit(origin, directions, *box)
        hit = near < far
        self.pixels = len(directions)
        self.hit = put(hit.nonzero()[0], torch.int64)
        self.origin, self.directions = put(origin), put(directions[hit])
        self.near, self.far = put(near[hit]), put(far[hit])
        self.step, self.termination, self.density_scale = field.step, field.termination, field.density_scale
        self.steps = math.ceil(float((far - near)[hit].max()) / field.step)
        self.occupancy = put(field.occupancy, torch.bool)
        self.planes = put(field.planes, dtype).permute(0, 3, 1, 2).contiguous()
        self.warp = put(frame.warp, dtype).permute(3, 2, 1, 0)[None].contiguous()  # (1, 3, z, y, x)
        self.warp_lo, self.warp_extent = put(field.warp_lo), put(field.warp_hi - field.warp_lo)
        self.layers = [(put(w, dtype), put(b, dtype)) for w, b in (
            (field.w1, frame.bias1), (field.w2, frame.bias2), (field.w3, field.b3)
        )]  # fmt: skip
        self.dtype = dtype
        self._sample, self._evaluate, self._composite = self.sample, self.evaluate, self.composite

    def compile(self) -> None:
        """Let torch.compile make its kernels of the three parts."""
        self._sample, self._composite = torch.compile(self.sample), torch.compile(self.composite)
        self._evaluate = torch.compile(self.evaluate, dynamic=True)

    def render(self) -> Tensor:
        """The picture; rays that miss the box are 0."""
        with torch.no_grad():
            points, wanted = self._sample()
            chosen = wanted.nonzero()[:, 0]
            rgba = torch.zeros(self.pixels, 4, device=points.device)
            rgba[self.hit] = self._composite(chosen, self._evaluate(points[chosen]))
            return rgba

    def sample(self) -> tuple[Tensor, Tensor]:
        """All sample points (R * S, 3) and which of them are occupied."""
        k = torch.arange(self.steps, device=self.near.device)
        t = self.near[:, None] + (k + 0.5) * self.step
        points = (self.origin + t[..., None] * self.directions[:, None]).view(-1, 3)
        grid = self.occupancy.shape[0]
        x, y, z = ((points + 1) * (0.5 * grid)).long().clamp(0, grid - 1).unbind(-1)
        return points, self.occupancy[x, y, z] & (t < self.far[:, None]).view(-1)

    def evaluate(self, points: Tensor) -> Tensor:
        """Raw outputs (N, 4) at points (N, 3)."""
        where = ((points - self.warp_lo) / self.warp_extent * 2 - 1).to(self.dtype)
        moved = F.grid_sample(self.warp, where[None, None, None], padding_mode="border", align_corners=True)
        q = (points.to(self.dtype) + moved[0, :, 0, 0].t()).clamp(-1, 1)
        pairs = torch.stack([q[:, [0, 1]], q[:, [2, 1]], q[:, [0, 2]]])[:, None]  # columns, rows
        texels = F.grid_sample(self.planes, pairs, padding_mode="border", align_corners=True)
        h = texels[:, :, 0].flatten(0, 1).t()
        for weight, bias in self.layers[:2]:
            h = F.relu(F.linear(h, weight, bias))
        return F.linear(h, *self.layers[2])

    def composite(self, chosen: Tensor, raw: Tensor) -> Tensor:
        """Premultiplied RGBA (R, 4) of the rays that meet the box."""
        raw = raw.float()
        alpha = 1 - torch.exp(-self.step * self.density_scale * F.softplus(raw[:, 0] - 1))
        shape = (len(self.near), self.steps)
        alphas = torch.zeros(shape[0] * shape[1], device=raw.device).index_put((chosen,), alpha).view(shape)
        colors = torch.zeros(shape[0] * shape[1], 3, device=raw.device).index_put((chosen,), raw[:, 1:].sigmoid())
        through = torch.cumprod(1 - alphas, 1)
        before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)
        weights = alphas * before * (before > self.termination)
        opacity = weights.sum(1, keepdim=True)
        rgba = torch.cat([(weights[..., None] * colors.view(*shape, 3)).sum(1), opacity], 1)
        return torch.where(1 - opacity <= self.termination, rgba / opacity.clamp(min=1e-6), rgba)
