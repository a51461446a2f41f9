"""The displaced layer for many pictures at once, on tensors of any device; nothing waits for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kernels.checks import KernelInputError


def warp_layer_slots(
    layer: Tensor,  # (N, S, S, 4) uint8, premultiplied
    grid: Tensor,  # (N, G, G, 2) float32, displacement x, y
    background: Tensor,  # (N, H, W, 3) uint8, opaque
) -> Tensor:
    """As :func:`kernels.layer.warp_layer` for each of N pictures, within one level of it; uint8 (N, H, W, 3).

    Raises:
        KernelInputError: Shapes or dtypes disagree.
    """
    _check(layer, grid, background)
    height, width = background.shape[1:3]
    place = torch.stack(torch.meshgrid(_centres(width, grid), _centres(height, grid), indexing="xy"), -1)
    place = place.expand(len(layer), -1, -1, -1)
    moved = place + _read(grid, place, corners=True)
    seen = _read(layer.float(), moved, corners=False)
    over = seen[..., :3] + (1.0 - seen[..., 3:] / 255.0) * background.float()
    return (over + 0.5).floor().clamp(0.0, 255.0).to(torch.uint8).contiguous()


def _centres(count: int, like: Tensor) -> Tensor:
    """(count,) pixel centres from -1 to 1 over the picture."""
    return (2.0 * torch.arange(count, device=like.device, dtype=like.dtype) + 1.0) / count - 1.0


def _read(picture: Tensor, place: Tensor, *, corners: bool) -> Tensor:
    """(N, H, W, C) of pictures (N, h, w, C) at places (N, H, W, 2), bilinear, clamped to the edges."""
    found = functional.grid_sample(
        picture.permute(0, 3, 1, 2), place, mode="bilinear", padding_mode="border", align_corners=corners
    )
    return found.permute(0, 2, 3, 1)


def _check(layer: Tensor, grid: Tensor, background: Tensor) -> None:
    for name, tensor, last, dtype in (
        ("layer", layer, 4, torch.uint8),
        ("grid", grid, 2, torch.float32),
        ("background", background, 3, torch.uint8),
    ):
        if tensor.dtype != dtype:
            raise KernelInputError(f"{name} must be {dtype}, got {tensor.dtype}")
        if tensor.ndim != 4 or tensor.shape[3] != last or len(tensor) != len(layer) or 0 in tensor.shape[1:]:
            raise KernelInputError(f"{name} must have shape ({len(layer)}, ., ., {last}), got {tuple(tensor.shape)}")
    for name, tensor in (("layer", layer), ("grid", grid)):
        if tensor.shape[1] != tensor.shape[2]:
            raise KernelInputError(f"{name} must be square, got {tuple(tensor.shape)}")
