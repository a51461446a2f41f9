"""Who renders the heads of a batch: the native ray marcher one after another on the CPU, Triton at once on a GPU."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kernels.ray_march import FrameInputs
from kernels.ray_march.batch import MarchBatch, Pictures, render_into
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


class TritonHeads:
    """All frames in one launch; each reads its avatar's field through the addresses in the table."""

    def __init__(self, table: AvatarTable) -> None:
        self._table = table

    def __call__(self, avatar: Tensor, cameras: Tensor, biases: Tensor, warps: Tensor) -> Tensor:
        """As `Heads`."""
        count, size, device = len(avatar), self._table.size_px, self._table.device
        tensors = self._table.tensors
        lenses = tensors["lens"].index_select(0, avatar)
        offsets = torch.arange(count, device=device) * warps[0].numel()
        nodes = [torch.full_like(offsets, side) for side in warps.shape[1:4]]
        field = self._table.any_field()
        batch = MarchBatch(
            prepared=(field,) * count,  # for their number and precision; the table keeps each one alive
            fields=tensors["field"].index_select(0, avatar),
            cameras=torch.cat([cameras.flatten(1), lenses], 1),
            biases=biases.contiguous(),
            warps=warps.flatten(),
            warp_table=torch.stack([offsets, *nodes], 1),
        )
        pictures = Pictures(
            rgba=torch.empty(count, size, size, 4, device=device),
            depth=torch.empty(count, size, size, device=device),
            samples=None,
        )
        render_into(batch, pictures)
        return pictures.rgba


def make_heads(table: AvatarTable) -> Heads:
    """The renderer for a table: Triton where its fields are prepared for that, else the native one."""
    return CpuHeads(table) if table.precision is None else TritonHeads(table)
