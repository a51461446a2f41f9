"""Twice the picture: a head rendered at 256 px becomes one of 512 px by a small convolutional network.

It adds what is missing to a bilinear enlargement of premultiplied RGBA, by sub-pixel convolution (Shi et al. 2016). It
was trained on renderings of the default avatar (`nerf-lipsync train upscale`); torso and background are not its
business, they are laid behind at full size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.checkpoint import load_checkpoint
from model.errors import ConfigError, InputError

__all__ = ["ASSET", "KIND", "UpscaleConfig", "UpscaleNet", "Upscaler"]

ASSET = Path(__file__).parents[1] / "assets" / "upscale.safetensors"
KIND = "upscale"
FACTOR = 2
CHANNELS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleConfig:
    """Sizes of the network: `layers` convolutions of 3 x 3 with `width` channels before the last one."""

    width: int = 16
    layers: int = 3

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1:
            raise ConfigError(f"width and layers must be at least 1, got {self.width}, {self.layers}")


class UpscaleNet(nn.Module):
    """(B, 4, H, W) premultiplied RGBA to (B, 4, 2 H, 2 W); at the start the bilinear enlargement."""

    def __init__(self, config: UpscaleConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(config.layers):
            layers += [nn.Conv2d(config.width if index else CHANNELS, config.width, 3, padding=1), nn.ReLU()]
        last = nn.Conv2d(config.width, CHANNELS * FACTOR**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias if last.bias is not None else torch.empty(0))
        self.detail = nn.Sequential(*layers, last, nn.PixelShuffle(FACTOR))

    def forward(self, rgba: Tensor) -> Tensor:
        """The enlargement; values may leave 0..1 a little."""
        detail: Tensor = self.detail(rgba)
        return enlarge(rgba) + detail


def enlarge(rgba: Tensor) -> Tensor:
    """Bilinear, (B, C, H, W) to (B, C, 2 H, 2 W)."""
    return nn.functional.interpolate(rgba, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)


class Upscaler:
    """The trained network for serving. Immutable; float32 on the CPU."""

    def __init__(self, net: UpscaleNet) -> None:
        self._net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, path: Path = ASSET) -> Upscaler:
        """Read the shipped weights, or those of a file.

        Raises:
            CheckpointError: The file is missing, damaged, or something else.
        """
        stored = load_checkpoint(path, kind=KIND, config_cls=UpscaleConfig)
        net = UpscaleNet(stored.config)
        net.load_state_dict({name: tensor.float() for name, tensor in stored.tensors.items()})
        return cls(net)

    def __call__(self, rgba: NDArray[np.float32]) -> NDArray[np.float32]:
        """(S, S, 4) premultiplied, 0..1, to (2 S, 2 S, 4); color never above its alpha.

        Raises:
            InputError: Not such a picture.
        """
        if rgba.ndim != 3 or rgba.shape[2] != CHANNELS or rgba.dtype != np.float32:
            raise InputError(f"a picture to enlarge is (S, S, {CHANNELS}) float32, got {rgba.shape} {rgba.dtype}")
        picture = torch.from_numpy(rgba).permute(2, 0, 1)[None]
        with torch.inference_mode():
            large = self._net(picture)[0].permute(1, 2, 0).clamp(0, 1)
            large[..., :3] = torch.minimum(large[..., :3], large[..., 3:])
        return np.ascontiguousarray(large.numpy(), np.float32)
