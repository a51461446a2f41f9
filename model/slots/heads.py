"""Who renders the heads of a batch: the native ray marcher one after another on the CPU, Triton at once on a GPU."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kernels.ray_march import FrameInputs
from model.slots.avatars import AvatarTable


class Heads(Protocol):
    """Renders F heads of avatars of one table."""

    def __call__(self, avatar: Tensor, cameras: Tensor, biases: Tensor, warps: Tensor) -> Tensor:
        """Premultiplied RGBA (F, S, S, 4) float32.

        Args:
            avatar: (F,) int64, indices into the table.
            cameras: (F, 3, 4) float32, cam_to_canonical.
            biases: (F, 2, hidden) float32.
            warps: (F, Gx, Gy, Gz, 3) float32.
        """


class CpuHeads:
    """Each avatar's own `RayMarcher`, frame by frame. For the CPU: it reads what it is given."""

    def __init__(self, table: AvatarTable) -> None:
        self._table = table

    def __call__(self, avatar: Tensor, cameras: Tensor, biases: Tensor, warps: Tensor) -> Tensor:
        """As `Heads`."""
        size = self._table.size_px
        out = torch.empty(len(avatar), size, size, 4)
        for i, index in enumerate(avatar.tolist()):
            renderer = self._table.at(index).renderer
            fx, fy, cx, cy = renderer.avatar.config.camera.intrinsics(size)
            frame = FrameInputs(
                bias1=biases[i, 0].numpy(),
                bias2=biases[i, 1].numpy(),
                warp=warps[i].numpy(),
                cam_to_canonical=cameras[i].numpy(),
                fx=fx,
                fy=fy,
                cx=cx,
                cy=cy,
                height=size,
                width=size,
            )
            renderer.marcher.render(frame, out[i].numpy())
        return out
