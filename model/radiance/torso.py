"""The torso as a learned 2-D layer.

In the default avatar's capture torso and camera are still, so one premultiplied RGBA picture behind the head is exact.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class TorsoLayer(nn.Module):
    """Trainable premultiplied RGBA picture (size, size, 4)."""

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.rgba = nn.Parameter(initial.clone().float())

    def forward(self, rows: Tensor, columns: Tensor, size_px: int | None = None) -> Tensor:
        """(R, 4) at pixels of a picture of `size_px` (a whole fraction of the layer's), color <= alpha <= 1."""
        size = self.rgba.shape[0]
        ratio = size // (size_px or size)
        layer: Tensor = self.rgba
        if ratio > 1:
            layer = layer.view(size // ratio, ratio, size // ratio, ratio, 4).mean((1, 3))
        picked = layer[rows, columns]
        alpha = picked[:, 3:].clamp(0, 1)
        return torch.cat([torch.minimum(picked[:, :3].clamp(min=0), alpha), alpha], 1)

    def picture(self) -> NDArray[np.uint8]:
        """The whole layer as uint8, premultiplied."""
        size = self.rgba.shape[0]
        grid = torch.arange(size)
        with torch.no_grad():
            flat = self(grid.repeat_interleave(size), grid.repeat(size))
        return np.asarray((flat.view(size, size, 4) * 255).round().to(torch.uint8).numpy(), np.uint8)
