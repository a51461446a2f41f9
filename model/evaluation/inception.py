"""The Inception-V3 of the Frechet Inception Distance: 2048 features a picture from its last pooling ("pool3").

The network of Szegedy et al. 2016 as TensorFlow's 2015-12-05 graph has it, whose weights were converted by pytorch-fid
and are the ones that published figures use. That graph differs from torchvision's: average pooling does not count the
padding, the last block pools by maximum, and no input normalisation but to -1..1.

Written here, in plain torch, because torch-fidelity reads the weights with a full unpickler and needs, as torchmetrics
does, the torchvision that was built for the installed torch. On the same weights and input it gives what torch-fidelity
0.4's network gives, to the last bit. Pictures are enlarged as pytorch-fid does (bilinear, pixel areas aligned);
torch-fidelity imitates TensorFlow 1's shifted enlargement instead, and torchmetrics smooths where it shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import InputError
from model.evaluation.weight_files import WeightFile, fill_network, read_weights

__all__ = ["FEATURES", "INCEPTION_FILE", "InceptionFeatures"]

INCEPTION_FILE: Final = WeightFile(
    title="Inception-V3 for FID",
    name="pt_inception-2015-12-05-6726825d.pth",
    sha256_start="6726825d",
    url="https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
)
FEATURES: Final = 2048
INPUT_PX: Final = 299

Kernel = int | tuple[int, int]
Conv = tuple[int, int, Kernel] | tuple[int, int, Kernel, int]
"""Channels in and out, kernel, and stride where it is not 1; a stride of 2 goes without padding."""
Chain = Sequence[str | tuple[str, str]]
"""Convolutions one after another; a pair at the end runs side by side."""


class InceptionFeatures:
    """The network with weights from a file.

    Raises:
        InputError: The file is missing or holds other weights.
    """

    def __init__(self, path: Path, *, device: str = "cpu") -> None:
        self._network = InceptionV3()
        fill_network(self._network, read_weights(path, INCEPTION_FILE), path, INCEPTION_FILE)
        self._network.to(device)
        self._device = device
        self.note = INCEPTION_FILE.describe(path)

    @property
    def size(self) -> int:
        """How many features a picture has."""
        return FEATURES

    @torch.inference_mode()
    def features(self, frames: NDArray[np.uint8], *, batch: int = 16) -> NDArray[np.float64]:
        """(N, 2048) features of RGB frames (N, H, W, 3) uint8 of any size.

        Raises:
            InputError: The shape or type is wrong.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise InputError(f"frames for FID are (N, H, W, 3) uint8, got {frames.shape} {frames.dtype}")
        found = [np.zeros((0, FEATURES))]
        for start in range(0, len(frames), batch):
            part = torch.from_numpy(frames[start : start + batch]).to(self._device).permute(0, 3, 1, 2).float() / 255
            wide = F.interpolate(part, (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
            found.append(self._network(2 * wide - 1).double().cpu().numpy())
        return np.concatenate(found)


class InceptionV3(nn.Module):
    """(B, 3, 299, 299) in -1..1 -> (B, 2048). Layers are named as in the weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3, padding=0)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3, padding=0)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _reduction_b()
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        self.Mixed_7a = _reduction_d()
        self.Mixed_7b = _block_e(1280, "average")
        self.Mixed_7c = _block_e(2048, "maximum")

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of the last block."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        same = (0, 0) if stride == 2 else (height // 2, width // 2)
        pad = same if padding is None else (padding, padding)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H', W')."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Chains of convolutions side by side, and a pooled copy of the input (convolved where there is `branch_pool`)."""

    def __init__(
        self, convs: Mapping[str, Conv], chains: Sequence[Chain], pool: Literal["average", "maximum", "halve"]
    ) -> None:
        super().__init__()
        for name, conv in convs.items():
            self.add_module(name, ConvNorm(*conv))
        self._chains = chains
        self._pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> all branches' channels; "halve" halves height and width."""
        outs = [y for chain in self._chains for y in self._run(chain, x)]
        if self._pool == "halve":
            return torch.cat([*outs, F.max_pool2d(x, 3, 2)], 1)
        if self._pool == "average":
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        else:
            pooled = F.max_pool2d(x, 3, 1, 1)
        return torch.cat([*outs, self.get_submodule("branch_pool")(pooled)], 1)

    def _run(self, chain: Chain, x: Tensor) -> list[Tensor]:
        for step in chain:
            if isinstance(step, tuple):
                return [self.get_submodule(name)(x) for name in step]
            x = self.get_submodule(step)(x)
        return [x]


def _block_a(inputs: int, pooled: int) -> Mixed:
    convs: dict[str, Conv] = {
        "branch1x1": (inputs, 64, 1),
        "branch5x5_1": (inputs, 48, 1),
        "branch5x5_2": (48, 64, 5),
        "branch3x3dbl_1": (inputs, 64, 1),
        "branch3x3dbl_2": (64, 96, 3),
        "branch3x3dbl_3": (96, 96, 3),
        "branch_pool": (inputs, pooled, 1),
    }
    chains: tuple[Chain, ...] = (("branch1x1",), _steps("branch5x5", 2), _steps("branch3x3dbl", 3))
    return Mixed(convs, chains, "average")


def _reduction_b() -> Mixed:
    convs: dict[str, Conv] = {
        "branch3x3": (288, 384, 3, 2),
        "branch3x3dbl_1": (288, 64, 1),
        "branch3x3dbl_2": (64, 96, 3),
        "branch3x3dbl_3": (96, 96, 3, 2),
    }
    return Mixed(convs, (("branch3x3",), _steps("branch3x3dbl", 3)), "halve")


def _block_c(middle: int) -> Mixed:
    convs: dict[str, Conv] = {
        "branch1x1": (768, 192, 1),
        "branch7x7_1": (768, middle, 1),
        "branch7x7_2": (middle, middle, (1, 7)),
        "branch7x7_3": (middle, 192, (7, 1)),
        "branch7x7dbl_1": (768, middle, 1),
        "branch7x7dbl_2": (middle, middle, (7, 1)),
        "branch7x7dbl_3": (middle, middle, (1, 7)),
        "branch7x7dbl_4": (middle, middle, (7, 1)),
        "branch7x7dbl_5": (middle, 192, (1, 7)),
        "branch_pool": (768, 192, 1),
    }
    chains: tuple[Chain, ...] = (("branch1x1",), _steps("branch7x7", 3), _steps("branch7x7dbl", 5))
    return Mixed(convs, chains, "average")


def _reduction_d() -> Mixed:
    convs: dict[str, Conv] = {
        "branch3x3_1": (768, 192, 1),
        "branch3x3_2": (192, 320, 3, 2),
        "branch7x7x3_1": (768, 192, 1),
        "branch7x7x3_2": (192, 192, (1, 7)),
        "branch7x7x3_3": (192, 192, (7, 1)),
        "branch7x7x3_4": (192, 192, 3, 2),
    }
    return Mixed(convs, (_steps("branch3x3", 2), _steps("branch7x7x3", 4)), "halve")


def _block_e(inputs: int, pool: Literal["average", "maximum"]) -> Mixed:
    convs: dict[str, Conv] = {
        "branch1x1": (inputs, 320, 1),
        "branch3x3_1": (inputs, 384, 1),
        "branch3x3_2a": (384, 384, (1, 3)),
        "branch3x3_2b": (384, 384, (3, 1)),
        "branch3x3dbl_1": (inputs, 448, 1),
        "branch3x3dbl_2": (448, 384, 3),
        "branch3x3dbl_3a": (384, 384, (1, 3)),
        "branch3x3dbl_3b": (384, 384, (3, 1)),
        "branch_pool": (inputs, 192, 1),
    }
    chains: tuple[Chain, ...] = (
        ("branch1x1",),
        ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
        ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
    )
    return Mixed(convs, chains, pool)


def _steps(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}_{number}" for number in range(1, count + 1))
