"""Where an avatar's training starts: the torso's mean picture and the visual hull of the head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.data.capture import ORBIT, CaptureFrames
from model.radiance.renderer import Intrinsics

HEAD_ELLIPSOID = (0.72, 1.15, 0.85)  # half axes, canonical units: silhouettes at +-25 degrees do not bound depth
HULL_AGREEMENT = 0.985
HULL_FRAMES = 300


def first_torso(frames: CaptureFrames) -> Tensor:
    """(S, S, 4) premultiplied: the mean where the head is not, grown into what the head always hides."""
    size = frames.size_px
    total = np.zeros((size, size, 4), np.float32)
    count = np.zeros((size, size, 1), np.float32)
    for rgba, head, kind in zip(frames.rgba, frames.head, frames.kind, strict=True):
        if kind == ORBIT:
            continue
        free = (head == 0).astype(np.float32)[..., None]
        total += rgba * free
        count += free
    mean = torch.from_numpy(total / np.maximum(count, 1) / 255)
    known = torch.from_numpy((count >= max(1.0, 0.01 * len(frames))).astype(np.float32))
    layer, mask = (mean * known).permute(2, 0, 1)[None], known.permute(2, 0, 1)[None]
    while float(mask.min()) == 0 and float(mask.max()) > 0:
        share = functional.avg_pool2d(mask, 3, 1, 1)
        grown = functional.avg_pool2d(layer * mask, 3, 1, 1) / share.clamp(min=1e-6)
        layer = torch.where(mask > 0, layer, grown)
        mask = torch.maximum(mask, (share > 0).float())
    return layer[0].permute(1, 2, 0).contiguous()


def visual_hull(frames: CaptureFrames, cameras: Tensor, lenses: Tensor, grid_size: int) -> Tensor:
    """(G, G, G) bool: voxels inside nearly every silhouette and inside a head ellipsoid."""
    axis = (torch.arange(grid_size) + 0.5) / grid_size * 2 - 1
    centres = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    chosen = np.linspace(0, len(frames) - 1, min(HULL_FRAMES, len(frames))).round().astype(int)
    votes = torch.zeros(len(centres))
    for i in chosen:
        lens = Intrinsics(*lenses[i].unbind())
        local = (centres - cameras[i, :, 3]) @ cameras[i, :, :3]
        u = (local[:, 0] / local[:, 2] * lens.fx + lens.cx) / frames.size_px * 2 - 1
        v = (local[:, 1] / local[:, 2] * lens.fy + lens.cy) / frames.size_px * 2 - 1
        mask = functional.max_pool2d(torch.from_numpy(frames.head[i]).float()[None, None] / 255, 5, 1, 2)
        seen = functional.grid_sample(mask, torch.stack([u, v], -1)[None, None], align_corners=False)[0, 0, 0]
        outside = (u.abs() >= 1) | (v.abs() >= 1)
        votes += ((seen > 0.05) | outside).float()
    inside = ((centres / torch.tensor(HEAD_ELLIPSOID)) ** 2).sum(1) < 1
    hull = ((votes >= HULL_AGREEMENT * len(chosen)) & inside).view(1, 1, grid_size, grid_size, grid_size)
    return functional.max_pool3d(hull.float(), 3, 1, 1)[0, 0] > 0
