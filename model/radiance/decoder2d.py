"""The head's picture from a plain 2-D convolutional decoder instead of the field: an ablation, never served.

The paper's "without NeRF spatial alignment". It sees exactly what the field's per-frame conditions see (motion, head
rotation and its squares) and paints the same premultiplied RGBA picture of the head, but knows of no space: a learned
8 x 8 grid is doubled by convolutions whose channels the condition scales and shifts (FiLM, Perez et al. 2018), the last
doubling by sub-pixel convolution (Shi et al. 2016), and added to the mean picture. Its sizes are chosen so that a
picture takes about as many milliseconds of a core as the field's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint import load_checkpoint, read_checkpoint_info, save_checkpoint
from model.errors import ConfigError
from model.radiance.field import condition_vector

__all__ = [
    "KIND",
    "Decoder2d",
    "Decoder2dConfig",
    "field_multiply_adds",
    "load_decoder",
    "multiply_adds",
    "save_decoder",
]

KIND = "decoder-2d"
BASE_PX = 8
RGBA = 4
MEAN_MARGIN = 0.01
CONDITION_EXTRA = 9  # rotation vector and the products of its components


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder2dConfig:
    """Channels at 8, 16, 32, ... pixels; the picture has twice the last level's size."""

    motion_size: int = 32
    hidden: int = 128
    channels: tuple[int, ...] = (96, 64, 48, 32, 24)

    def __post_init__(self) -> None:
        if min(self.motion_size, self.hidden, *self.channels) < 1 or len(self.channels) < 2:
            raise ConfigError(f"sizes must be positive and there must be two levels or more, got {self}")

    @property
    def size_px(self) -> int:
        """Side of the picture."""
        return int(BASE_PX * 2 ** len(self.channels))


class Decoder2d(nn.Module):
    """Motion (F, 32) and rotation vectors (F, 3) in radians to pictures (F, 4, S, S), premultiplied, 0..1."""

    def __init__(self, config: Decoder2dConfig) -> None:
        super().__init__()
        self.config = config
        first = config.channels[0]
        self.base = nn.Parameter(torch.randn(1, first, BASE_PX, BASE_PX) * 0.5)
        self.condition = nn.Sequential(
            nn.Linear(config.motion_size + CONDITION_EXTRA, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
        )
        self.spread = nn.Linear(config.hidden, first * BASE_PX * BASE_PX)
        pairs = list(zip(config.channels[:-1], config.channels[1:], strict=True))
        self.blocks = nn.ModuleList(_Block(a, b, config.hidden) for a, b in pairs)
        self.last = nn.Conv2d(config.channels[-1], 4 * RGBA, 3, padding=1)
        self.mean = nn.Parameter(torch.zeros(1, RGBA, config.size_px, config.size_px))  # before the sigmoid
        with torch.no_grad():
            self.last.weight.mul_(0.3)

    def start_from(self, mean: Tensor) -> None:
        """Begin with the mean picture (4, S, S), premultiplied, 0..1: what is left to learn is how frames differ."""
        alpha = mean[3:].clamp(MEAN_MARGIN, 1 - MEAN_MARGIN)
        straight = (mean[:3] / alpha).clamp(MEAN_MARGIN, 1 - MEAN_MARGIN)
        with torch.no_grad():
            self.mean.copy_(torch.logit(torch.cat([straight, alpha])))

    def forward(self, motion: Tensor, rotvec: Tensor) -> Tensor:
        """The pictures; color never above its alpha."""
        condition = self.condition(condition_vector(motion, rotvec))
        spread = self.spread(condition).view(len(motion), self.config.channels[0], BASE_PX, BASE_PX)
        picture = functional.relu(self.base + spread).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            picture = block(picture, condition)
        raw = functional.pixel_shuffle(self.last(picture), 2) + self.mean
        alpha = torch.sigmoid(raw[:, 3:])
        return torch.cat([torch.sigmoid(raw[:, :3]) * alpha, alpha], 1)


class _Block(nn.Module):
    """Doubles the picture; two convolutions, each scaled and shifted by the condition."""

    def __init__(self, channels: int, out: int, condition: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, padding=1)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.film = nn.Linear(condition, 4 * out)
        with torch.no_grad():
            self.film.weight.mul_(0.3)
            self.film.bias.zero_()

    def forward(self, picture: Tensor, condition: Tensor) -> Tensor:
        scale1, shift1, scale2, shift2 = self.film(condition)[..., None, None].chunk(4, 1)
        large = functional.interpolate(picture, scale_factor=2.0, mode="nearest")
        hidden = functional.relu(self.first(large) * (1 + scale1) + shift1)
        out: Tensor = functional.relu(self.second(hidden) * (1 + scale2) + shift2)
        return out


def save_decoder(path: Path, net: Decoder2d, metadata: dict[str, str]) -> None:
    """Weights in half precision."""
    tensors = {name: tensor.detach().half() for name, tensor in net.state_dict().items()}
    save_checkpoint(path, tensors, kind=KIND, config=net.config, metadata=metadata)


def load_decoder(path: Path) -> tuple[Decoder2d, str]:
    """The trained decoder, for inference, and its content hash.

    Raises:
        CheckpointError: The file is missing, damaged, or something else.
    """
    stored = load_checkpoint(path, kind=KIND, config_cls=Decoder2dConfig)
    net = Decoder2d(stored.config)
    net.load_state_dict({name: tensor.float() for name, tensor in stored.tensors.items()})
    return net.eval().requires_grad_(False), read_checkpoint_info(path).content_hash


def multiply_adds(net: Decoder2d) -> int:
    """Multiply-adds of one picture: convolutions and linear layers, counted in a forward pass."""
    count = 0

    def add(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal count
        weight = module.weight
        if isinstance(weight, Tensor):
            count += output.numel() * weight[0].numel()

    hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.inference_mode():
        net(torch.zeros(1, net.config.motion_size), torch.zeros(1, 3))
    for hook in hooks:
        hook.remove()
    return count


def field_multiply_adds(samples: int, channels: int, hidden: int) -> int:
    """Multiply-adds of the field's `samples`: both hidden layers and the last one; planes and warp not counted."""
    return samples * (3 * channels * hidden + hidden * hidden + RGBA * hidden)
