"""Perceptual and identity losses on rendered faces of a training: a frozen face recognition network compares.

A frame's face is rendered at about 112 pixels and laid onto ArcFace's template (Deng et al. 2019) as the filmed one is;
both go through the network. Perceptual: squared difference of inner layers, each position of unit length (Zhang et al.
2018, without their learned weights). Identity: 1 - cosine of the embeddings.

The picture is rendered without gradient, the network's gradient is taken to its pixels, and only some rays, drawn by
the size of that gradient and weighted for it, are rendered again with gradient (deferred back-propagation, Zhang et
al. 2022, with a sample of the pixels): unbiased, and a small part of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import ConfigError, InputError
from model.radiance.occupancy import OccupancyGrid
from model.training.ray_sampling import RayBatch, RaySampler
from model.training.rendered_onnx import OnnxNetwork, load_onnx_network
from model.training.rendered_views import ARCFACE_POINTS, ARCFACE_PX, similarity

if TYPE_CHECKING:
    from model.training.avatar import AvatarTraining

LEAST_LAYER_PX = 14  # smaller layers say little that the embedding does not say
LARGEST_PX = 160  # of the picture: where it has about as many pixels across the face as the network takes
EVEN_SHARE = 0.1  # of the second pass's rays: drawn without regard to the gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceLossConfig:
    """Weights against the color loss (0: off), and how much is rendered."""

    perceptual: float = 0.0
    identity: float = 0.0
    every: int = 24  # steps: less than a fifth of the time on a CPU
    rays: int = 2500  # with gradient

    def __post_init__(self) -> None:
        if min(self.perceptual, self.identity) < 0 or self.every < 1 or self.rays < 1:
            raise ConfigError(f"face losses: weights must not be negative, every and rays at least 1, got {self}")

    def due(self, step: int) -> bool:
        """Whether a step pays for them."""
        return max(self.perceptual, self.identity) > 0 and step % self.every == self.every - 1


class FaceTerms(NamedTuple):
    """Unweighted losses of one face."""

    perceptual: Tensor
    identity: Tensor


class FaceJudge(nn.Module):
    """A frozen network and which of its layers are compared.

    Args:
        network: (N, 3, 112, 112) RGB to (N, features).

    Raises:
        InputError: The network takes no such faces.
    """

    def __init__(self, network: OnnxNetwork) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        try:
            with torch.no_grad():
                found = network.layers(torch.zeros(1, 3, ARCFACE_PX, ARCFACE_PX))
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[0][:120]
            raise InputError(f"the face network takes no 112 x 112 faces ({reason}): give ArcFace's") from error
        self.names = last_of_each_size({name: tuple(value.shape) for name, value in found.items()})

    def forward(self, made: Tensor, real: Tensor) -> FaceTerms:
        """Losses of aligned faces (N, 3, 112, 112), 0..1; differentiable in `made`."""
        with torch.no_grad():
            wanted = self._look(real)
        found = self._look(made)
        layers = [(found[n] - wanted[n]).square().sum(1).mean() for n in self.names]
        perceptual = torch.stack(layers).mean() if layers else made.new_zeros(())
        cosine = (found[self.network.result] * wanted[self.network.result]).sum(1)
        return FaceTerms(perceptual, (1 - cosine).mean())

    def _look(self, faces: Tensor) -> dict[str, Tensor]:
        """The compared layers and the embedding (N, features), of unit length along axis 1."""
        seen = self.network.layers(faces * 255 if self.network.normalises_itself else faces * 2 - 1)
        wanted = {name: seen[name] for name in self.names} | {self.network.result: seen[self.network.result].flatten(1)}
        return {name: functional.normalize(value, dim=1) for name, value in wanted.items()}


def load_face_judge(path: Path) -> FaceJudge:
    """From the ONNX file of MobileFaceNet or ArcFace.

    Raises:
        InputError: The file is missing or no such network.
    """
    return FaceJudge(load_onnx_network(path))


def last_of_each_size(shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """The last layer at each resolution from `LEAST_LAYER_PX` up to half of the picture's."""
    last = {shape[2]: name for name, shape in shapes.items() if len(shape) == 4 and shape[2] == shape[3]}
    return tuple(name for px, name in last.items() if LEAST_LAYER_PX <= px <= ARCFACE_PX // 2)


def face_loss(
    training: AvatarTraining, judge: FaceJudge, done: float, occupancy: OccupancyGrid, generator: torch.Generator
) -> Tensor:
    """Weighted loss of one frame's face; its gradient is that of a sample of the rays."""
    sampler = training.samplers[min(training.samplers, key=lambda px: (px > LARGEST_PX, abs(px - LARGEST_PX)))]
    frame = torch.multinomial(sampler.weights * sampler.has_torso, 1, generator=generator)
    index, size = int(frame), sampler.frames.size_px
    view = face_view(sampler, index)
    box = covered(view, size)
    pixels = (torch.arange(box[1], box[3])[:, None] * size + torch.arange(box[0], box[2])).reshape(-1)
    with torch.no_grad():
        batch = sampler.batch(frame, [pixels]).to(training.device)
        picture = _composed(training, batch, done, occupancy, generator)
    picture.requires_grad_()
    grid = _sampling_grid(view, box).to(training.device)
    truth = batch.rgba[:, :3] + (1 - batch.rgba[:, 3:]) * 0.5
    terms = judge(_aligned(picture, grid, box), _aligned(truth, grid, box))
    config = training.config.face
    loss = config.perceptual * terms.perceptual + config.identity * terms.identity
    (slope,) = torch.autograd.grad(loss, picture)
    strength = slope.norm(dim=1).cpu()
    share = (1 - EVEN_SHARE) * strength / strength.sum().clamp(min=1e-20) + EVEN_SHARE / len(strength)
    chosen = torch.multinomial(share, config.rays, replacement=True, generator=generator)
    again = sampler.batch(frame, [pixels[chosen]]).to(training.device)
    weight = (1 / (share[chosen] * config.rays)).to(training.device)
    pulled = (_composed(training, again, done, occupancy, generator) * slope[chosen] * weight[:, None]).sum()
    total: Tensor = loss.detach() + pulled - pulled.detach()
    return total


def face_view(sampler: RaySampler, index: int) -> Tensor:
    """(2, 3) from a pixel of the 112 x 112 face (column + 0.5, row + 0.5, 1) to the frame's pixels, x and y."""
    frames = sampler.frames
    boxes = np.stack([*frames.eye_boxes[index], frames.mouth_box[index]]).astype(np.float64)
    found = (boxes[:, :2] + boxes[:, 2:]) / 2
    template = np.asarray(ARCFACE_POINTS) + 0.5
    a, b, x, y = similarity(np.stack([template[0], template[1], template[3:].mean(0)]), found)
    return torch.tensor([[a, -b, x], [b, a, y]], dtype=torch.float32)


def covered(view: Tensor, size_px: int) -> tuple[int, int, int, int]:
    """Whole pixels x0, y0, x1, y1 of the frame that a view of the face reads."""
    side = float(ARCFACE_PX)
    corners = torch.tensor([[0.0, 0.0, 1.0], [side, 0.0, 1.0], [0.0, side, 1.0], [side, side, 1.0]]) @ view.t()
    low = (corners.amin(0) - 1).floor().clamp(0, size_px - 2).int().tolist()
    high = (corners.amax(0) + 1).ceil().clamp(2, size_px).int().tolist()
    return low[0], low[1], max(high[0], low[0] + 2), max(high[1], low[1] + 2)


def _sampling_grid(view: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """(1, 112, 112, 2) places in the box, -1..1."""
    axis = torch.arange(ARCFACE_PX) + 0.5
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    place = torch.stack([columns, rows, torch.ones_like(rows)], -1) @ view.t()
    low, high = torch.tensor(box[:2]).float(), torch.tensor(box[2:]).float()
    return ((place - low) / (high - low) * 2 - 1)[None]


def _aligned(colors: Tensor, grid: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Colors (R, 3) of the box's pixels as a face (1, 3, 112, 112)."""
    planes = colors.t().reshape(1, 3, box[3] - box[1], box[2] - box[0])
    return functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)


def _composed(
    training: AvatarTraining, batch: RayBatch, done: float, occupancy: OccupancyGrid, generator: torch.Generator
) -> Tensor:
    """(R, 3) over grey."""
    marched, stage = training.looked(batch, done, occupancy, generator)
    return stage.compose(marched, batch, torch.full((len(batch.rows), 3), 0.5, device=batch.rgba.device))
