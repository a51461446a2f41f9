"""LPIPS and FID: distances in the features of trained networks, whose weights are given by path and never fetched.

LPIPS (Zhang et al. 2018), version 0.1, AlexNet: features after each of five ReLUs, unit length over channels, squared
differences weighted by the learned heads, mean over the picture, sum over layers. Inputs in 0..1 are brought to -1..1
(`normalize=True` of the lpips package, as RAD-NeRF and ER-NeRF call it). Written here because the packages need the
torchvision that was built for the installed torch; on equal weights it agrees with torchmetrics 1.9 to 1e-5.

FID (Heusel et al. 2017): `frechet` over the features of `inception`. Both sides must have the same crop and size and
have gone through the same codec.

Where a weights file is not given, a figure is absent and a line says so; it is never 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.errors import InputError
from model.evaluation.frechet import FeatureMoments, frechet_distance, frechet_of_features
from model.evaluation.inception import INCEPTION_FILE, InceptionFeatures
from model.evaluation.tables import Metric
from model.evaluation.weight_files import WeightFile, fill_network, read_weights

__all__ = ["ALEXNET_FILE", "FID_METRICS", "LPIPS_HEADS_FILE", "LPIPS_METRIC", "FidScore", "LearnedMetrics", "Lpips"]

ALEXNET_FILE: Final = WeightFile(
    title="AlexNet for LPIPS",
    name="alexnet-owt-7be5be79.pth",
    sha256_start="7be5be79",
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
)
LPIPS_HEADS_FILE: Final = WeightFile(
    title="LPIPS heads (v0.1, alex)",
    name="alex.pth",
    sha256_start="df73285e",  # of the copy inside torchmetrics 1.9
    url="https://github.com/richzhang/PerceptualSimilarity/tree/master/lpips/weights/v0.1",
)
MIN_SIDE_PX: Final = 32

LPIPS_METRIC = Metric(
    name="lpips",
    title="LPIPS",
    unit="1",
    better="lower",
    definition="Learned perceptual distance (Zhang et al. 2018, v0.1, AlexNet) of made and real crop, mean over "
    "frames.",
)
FID_METRICS = (
    Metric(
        name="fid",
        title="FID, pooled",
        unit="1",
        better="lower",
        definition="Frechet distance (Heusel et al. 2017) of the Inception-V3 features of all made and all real "
        "frames; pytorch-fid's network and enlargement. Not comparable between papers.",
    ),
    Metric(
        name="fid_per_video",
        title="FID, per video",
        unit="1",
        better="lower",
        definition="The same for each video by itself, then averaged; with fewer frames than 2048 features strongly "
        "biased upwards, so only for comparing methods over the same videos.",
    ),
)

Float64 = NDArray[np.float64]


class Lpips:
    """LPIPS with weights from two files: torchvision's AlexNet and the package's linear heads.

    Raises:
        InputError: A file is missing or holds other weights.
    """

    def __init__(self, alexnet: Path, heads: Path, *, device: str = "cpu") -> None:
        self._network = _LpipsNetwork()
        fill_network(self._network.features, _inner(read_weights(alexnet, ALEXNET_FILE)), alexnet, ALEXNET_FILE)
        fill_network(self._network.heads, _heads(read_weights(heads, LPIPS_HEADS_FILE)), heads, LPIPS_HEADS_FILE)
        self._network.to(device).eval()
        self._device = device
        self.notes = (ALEXNET_FILE.describe(alexnet), LPIPS_HEADS_FILE.describe(heads))

    @torch.inference_mode()
    def distances(self, made: NDArray[np.uint8], truth: NDArray[np.uint8], *, batch: int = 16) -> Float64:
        """(T,) distance of each pair of frames (T, H, W, 3), RGB uint8, sides from 32 px; 0 for equal ones.

        Raises:
            InputError: Shape or type is wrong.
        """
        if made.shape != truth.shape or made.ndim != 4 or made.shape[3] != 3 or min(made.shape[1:3]) < MIN_SIDE_PX:
            raise InputError(
                f"LPIPS compares frames (T, H, W, 3) of at least {MIN_SIDE_PX} px, got {made.shape} and {truth.shape}"
            )
        if made.dtype != np.uint8 or truth.dtype != np.uint8:
            raise InputError(f"frames for LPIPS are uint8, got {made.dtype} and {truth.dtype}")
        found = [np.zeros(0)]
        for start in range(0, len(made), batch):
            a, b = (self._input(frames[start : start + batch]) for frames in (made, truth))
            found.append(self._network(a, b).double().cpu().numpy())
        return np.concatenate(found)

    def _input(self, frames: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(frames).to(self._device).permute(0, 3, 1, 2).float() / 255 * 2 - 1


class LearnedMetrics:
    """What can be scored with the weight files at hand, and a line for each thing that cannot.

    Args:
        inception: Inception-V3 weights for FID, or None.
        alexnet, lpips_heads: Both weights for LPIPS, or both None.

    Raises:
        InputError: A given file is missing or wrong, or only one of LPIPS's two is given.
    """

    def __init__(
        self, *, inception: Path | None = None, alexnet: Path | None = None, lpips_heads: Path | None = None
    ) -> None:
        if (alexnet is None) != (lpips_heads is None):
            lacking = ALEXNET_FILE if alexnet is None else LPIPS_HEADS_FILE
            raise InputError(f"LPIPS needs two files, AlexNet and heads: also give {lacking.name} ({lacking.url})")
        self.inception = InceptionFeatures(inception) if inception else None
        self.lpips = Lpips(alexnet, lpips_heads) if alexnet and lpips_heads else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Which weights made the figures, and which figures are absent for want of weights."""
        fid = self.inception.note if self.inception else INCEPTION_FILE.absent
        return (fid, *(self.lpips.notes if self.lpips else (ALEXNET_FILE.absent,)))


class FidScore:
    """FID of a set of videos, one video after another; only means and covariances are kept."""

    def __init__(self, dimensions: int) -> None:
        self._made, self._truth = FeatureMoments(dimensions), FeatureMoments(dimensions)

    def add(self, made: Float64, truth: Float64) -> float:
        """Take in a video's features, (T, dimensions) each, T >= 2; returns the video's own distance.

        Raises:
            InputError: The shape is wrong, there is one frame only, or a value is not finite.
        """
        alone = frechet_of_features(made, truth)
        self._made.add(made)
        self._truth.add(truth)
        return alone

    @property
    def pooled(self) -> float:
        """The distance over all frames so far.

        Raises:
            InputError: No video has been added.
        """
        return frechet_distance(self._made.gaussian, self._truth.gaussian)


class _LpipsNetwork(nn.Module):
    """Pictures (B, 3, H, W) in -1..1, twice, to distances (B,)."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, 1, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in (64, 192, 384, 256, 256))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Sum over the five layers of the heads' mean weighted squared difference."""
        layers = zip(self.heads, self._directions(a), self._directions(b), strict=True)
        return torch.stack([head((x - y) ** 2).mean((1, 2, 3)) for head, x, y in layers]).sum(0)

    def _directions(self, x: Tensor) -> list[Tensor]:
        found = []
        x = (x - self.shift) / self.scale
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return found


def _inner(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """AlexNet's convolutions under the names of a bare sequence."""
    return {name.removeprefix("features."): w for name, w in weights.items() if name.startswith("features.")}


def _heads(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """`lin0.model.1.weight` (behind a dropout) or `lin0.model.0.weight` -> `0.weight`."""
    return {f"{name.split('.')[0].removeprefix('lin')}.weight": w for name, w in weights.items() if "lin" in name}
