"""How the skull and hair of a new person differ from the starting head's, by the outline in one frame.

Landmarks end at the forehead; a displacement made of them alone leaves the starting avatar's hair where it is.
`outline_pairs` follows the outlines of the filmed head's cover and of the starting field in the same pose, from the
eyes' height upwards, and pairs points of one with points of the other at the same angle. `fill_torso` gives what still
stands out beyond the starting head to the torso layer at first.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.radiance.occupancy import OccupancyGrid
from model.radiance.renderer import Intrinsics, render_reference

if TYPE_CHECKING:
    from model.training.avatar import AvatarTraining

CENTRE = (0.0, 0.12, -0.05)  # canonical: between the ears, at the eyes' height; outlines lie about in its depth
ANGLES_DEG = tuple(range(0, 181, 15))
BACK = 0.25  # the same points stand once more behind, so that the skull keeps its depth
COVERED = 0.5
ALWAYS = 0.99  # of the frames: where the head hides what is behind it
CHIN_BELOW_MOUTH = 0.06  # of the picture
LEAST_RATIO, LARGEST_RATIO = 0.75, 1.4  # of new to old: beyond it is no head
PER_PX = 4  # places looked at along a pixel's length

Array = NDArray[np.float64]


def outline_pairs(training: AvatarTraining, occupancy: OccupancyGrid) -> tuple[Array, Array]:
    """Canonical points (K, 3) on the new head's outline, and (K, 3) those of the starting head's; K may be 0."""
    index, sampler = middle_frame(training), training.samplers[min(training.samplers)]
    camera, lens = training.cameras[index], training.lenses[index] * (sampler.frames.size_px / training.frames.size_px)
    middle = _projected(torch.tensor(CENTRE), camera, lens)
    angles = torch.tensor(ANGLES_DEG) * (math.pi / 180)
    ways = torch.stack([angles.cos(), -angles.sin()], 1)
    new = _radii(sampler.head[index].float() / 255, middle, ways)
    old = _radii(starting_cover(training, occupancy), middle, ways)
    ratio = new / old.clamp(min=1e-3)
    good = (new > 0) & (old > 0) & (ratio > LEAST_RATIO) & (ratio < LARGEST_RATIO)
    pairs = [_unprojected(middle + r[good, None] * ways[good], camera, lens) for r in (new, old)]
    behind = torch.tensor([0.0, 0.0, BACK])
    first, second = (torch.cat([p, p - behind]).double().numpy() for p in pairs)
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def fill_torso(training: AvatarTraining, occupancy: OccupancyGrid) -> None:
    """Begin the torso layer, where the head always hides it, with what the starting head leaves uncovered.

    Above the chin nothing stands behind the head itself: there it would be seen beside a turned head.
    """
    frames, size = training.frames, training.frames.size_px
    shown = starting_cover(training, occupancy)[None, None]
    cover = functional.interpolate(shown, size=(size, size), mode="bilinear", align_corners=False)[0, 0]
    hidden = torch.from_numpy((frames.head > 0).mean(0) > ALWAYS)
    mean = torch.from_numpy(frames.rgba.mean(0, dtype=np.float32) / 255)
    chin = float(np.median(frames.mouth_box[:, 3])) + CHIN_BELOW_MOUTH * size
    above = hidden & (torch.arange(size)[:, None] < chin)
    with torch.no_grad():
        filled = mean * (1 - cover.clamp(0, 1))[..., None]
        training.torso.rgba.copy_(torch.where(above[..., None], filled, training.torso.rgba))


def middle_frame(training: AvatarTraining) -> int:
    """The frame whose head pose is nearest to the median."""
    turns = training.rotvec.double()
    return int((turns - turns.median(0).values).norm(dim=1).argmin())


def starting_cover(training: AvatarTraining, occupancy: OccupancyGrid) -> Tensor:
    """(S, S) opacity of the field in `middle_frame`, at the smallest size that is trained."""
    index, size = middle_frame(training), min(training.samplers)
    lens = Intrinsics(*(float(v) * size / training.frames.size_px for v in training.lenses[index]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        frame = training.field.frame_conditions(training.motion[index, None], training.rotvec[index, None])
        shown, _ = render_reference(training.field, occupancy, frame, training.cameras[index], lens, size)
    return shown[..., 3].float()


def _radii(cover: Tensor, middle: Tensor, ways: Tensor) -> Tensor:
    """(A,) distance in pixels from `middle` (2,) to the outermost covered place along unit `ways` (A, 2); 0: unknown.

    Unknown: nothing is covered, or the head is cut by the picture's edge.
    """
    size = cover.shape[0]
    distances = torch.arange(PER_PX * size) / PER_PX
    places = (middle + distances[None, :, None] * ways[:, None]) / size * 2 - 1
    found = functional.grid_sample(cover[None, None], places[None], align_corners=False)[0, 0]
    outermost = torch.where(found > COVERED, distances, torch.zeros(())).amax(1)
    ends = middle + outermost[:, None] * ways
    inside = ((ends > 1.5) & (ends < size - 1.5)).all(1)
    return torch.where(inside, outermost, torch.zeros(()))


def _projected(point: Tensor, camera: Tensor, lens: Tensor) -> Tensor:
    """(2,) pixels x, y of a canonical point (3,)."""
    local = (point - camera[:, 3]) @ camera[:, :3]
    return local[:2] / local[2] * lens[:2] + lens[2:]


def _unprojected(pixels: Tensor, camera: Tensor, lens: Tensor) -> Tensor:
    """(N, 3) canonical points behind pixels (N, 2), in the plane of `CENTRE` across the head's depth."""
    rays = torch.cat([(pixels - lens[2:]) / lens[:2], torch.ones(len(pixels), 1)], 1) @ camera[:, :3].t()
    reach = (CENTRE[2] - camera[2, 3]) / rays[:, 2:]
    return camera[:, 3] + reach * rays
