"""How the skull, the ears and the neck of a new person differ from the starting head's, by the outline in one frame.

Landmarks end at the forehead; a displacement made of them alone leaves the starting avatar's hair and neck where they
are. `outline_tops` measures how high both heads reach (`skull_fit`); `outline_pairs` follows the outlines of the filmed
head's cover and of the starting field in the same pose, around the skull and aside of ears and neck, and pairs points
of one with points of the other. `fill_torso` clears the torso layer behind the head and puts the neck on it.
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

CENTRE_CM = (0.0, 3.0, -1.85)  # head-local: between the ears, at the eyes' height; outlines lie about in its depth
ANGLES_DEG = tuple(range(0, 181, 15))
COLUMNS_CM = tuple(range(-8, 9))  # head-local: there the heads' tops are measured
ASIDE_CM = (1.0, -1.0, -12.0, -13.5, -15.0)  # head-local heights: ears, neck
GROWN = 0.006  # of the picture: the starting head is made larger by this, since matter is lost more easily than gained
BACK = 0.25  # the same points stand once more behind, so that the skull keeps its depth
COVERED = 0.5
TORSO_SEEN = 40  # of 255, in any frame: above the chin the torso layer may show shoulders, nothing else
CHIN_BELOW_MOUTH = 0.06  # of the picture
FADE = 0.08  # of the picture: over so much above the mouth hair beside the face goes from field to torso layer
LEAST_HAIR = 0.035  # of the picture: hair that hangs beside the face is no narrower; what is, is the head's rim
TUCKED = 0.03  # of the picture: so far the layer goes on behind the head
LOWER_END = 0.03  # of the picture: so far above the cube's lower end the neck goes from field to torso layer
LEAST_RATIO, LARGEST_RATIO = 0.75, 1.4  # of new to old: beyond it is no head
PER_PX = 4  # places looked at along a pixel's length

Array = NDArray[np.float64]


def outline_pairs(training: AvatarTraining, occupancy: OccupancyGrid) -> tuple[Array, Array]:
    """Canonical points (K, 3) on the new head's outline, and (K, 3) those of the starting head's; K may be 0."""
    x, height, z = CENTRE_CM
    rays = [((x, height, z), angle) for angle in ANGLES_DEG]
    rays += [((x, aside, z), angle) for aside in ASIDE_CM for angle in (0, 180)]
    middles, ways, new, old = _both_radii(training, occupancy, rays)
    ratio = new / old.clamp(min=1e-3)
    good = (new > 0) & (old > 0) & (ratio > LEAST_RATIO) & (ratio < LARGEST_RATIO)
    pairs = [_unprojected(training, (middles + r[:, None] * ways)[good]) for r in (new, old)]
    behind = torch.tensor([0.0, 0.0, BACK])
    first, second = (torch.cat([p, p - behind]).double().numpy() for p in pairs)
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def outline_tops(training: AvatarTraining, occupancy: OccupancyGrid) -> tuple[Array, Array, Array]:
    """Canonical x of columns, rising, and the heights of the filmed and of the starting head's top; 0: not seen."""
    _, height, z = CENTRE_CM
    middles, ways, *radii = _both_radii(training, occupancy, [((x, height, z), 90) for x in COLUMNS_CM])
    columns = _unprojected(training, middles)[:, 0]
    tops = []
    for radius in radii:
        heights = _unprojected(training, middles + radius[:, None] * ways)[:, 1]
        tops.append(torch.where(radius > 0, heights, torch.zeros(())))
    first, second, third = (part.double().numpy() for part in (columns, *tops))
    return first, second, third


def fill_torso(training: AvatarTraining, occupancy: OccupancyGrid) -> None:
    """Begin the torso layer with the filmed neck, and with hair that hangs beside it; else with nothing of the head.

    Neck and hanging hair do not turn with the head; whatever else of it stood on the layer would be seen beside a
    turned head. Where the layer stands in for the head, the field is not pulled up; near the cube's lower end, where it
    would end in a frayed line, it is taught that there is no head.
    """
    frames, size = training.frames, training.frames.size_px
    shown = starting_cover(training, occupancy)[None, None]
    cover = functional.interpolate(shown, size=(size, size), mode="bilinear", align_corners=False)[0, 0]
    rows = torch.arange(size)[:, None]
    mouth, under = (float(v) for v in np.median(frames.mouth_box[:, [1, 3]], 0))
    chin = under + CHIN_BELOW_MOUTH * size
    mean = torch.from_numpy(frames.rgba.mean(0, dtype=np.float32) / 255)
    hair = _broad((cover < COVERED) & (mean[..., 3] > COVERED), round(LEAST_HAIR * size), round(TUCKED * size))
    share = (rows >= chin).float().maximum(((rows - mouth) / (FADE * size) + 1).clamp(0, 1) * hair)
    seen = _max_pooled(torch.from_numpy((frames.rgba[..., 3] - np.minimum(frames.rgba[..., 3], frames.head)).max(0)))
    free = (share > 0) | (seen > TORSO_SEEN)
    with torch.no_grad():
        first = torch.where(share[..., None] > 0, mean * share[..., None], training.torso.rgba)
        training.torso.rgba.copy_(first * free[..., None])
    training.torso.keep_clear(~free)
    training.stands_in = share > COVERED
    end = max(chin + TUCKED * size, _lower_end(training))
    for sampler in training.samplers.values():
        sampler.head[:, round(end * sampler.frames.size_px / size) :] = 0


def _lower_end(training: AvatarTraining) -> float:
    """The row of the trained size where the torso layer takes over from the field's neck."""
    camera, lens = _middle_view(training)
    depth = float(training.space.from_head(np.array(CENTRE_CM))[2])
    row = float(_projected(torch.tensor([0.0, -1.0, depth]), camera, lens)[1]) / min(training.samplers)
    return (row - LOWER_END) * training.frames.size_px


def _broad(where: Tensor, width: int, more: int) -> Tensor:
    """(S, S) float of a mask: the parts that are at least about `width` pixels wide, grown by `more`."""
    half = max(1, width // 2)
    inner = 1 - functional.max_pool2d(1 - where[None, None].float(), 2 * half + 1, 1, half)
    reach = half + more
    return functional.max_pool2d(inner, 2 * reach + 1, 1, reach)[0, 0]


def _max_pooled(picture: Tensor) -> Tensor:
    """(S, S) uint8, each pixel the largest of those around it."""
    return functional.max_pool2d(picture[None, None].float(), 3, 1, 1)[0, 0]


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


def _both_radii(
    training: AvatarTraining, occupancy: OccupancyGrid, rays: list[tuple[tuple[float, float, float], int]]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Beginnings (A, 2) and ways (A, 2) of rays in the picture, distances (A,) of the filmed and starting outline.

    A ray begins at a head-local point and goes at an angle, degrees from the picture's right upwards.
    """
    sampler, (camera, lens) = training.samplers[min(training.samplers)], _middle_view(training)
    points = training.space.from_head(np.array([point for point, _ in rays]))
    middles = torch.stack([_projected(torch.from_numpy(p).float(), camera, lens) for p in points])
    angles = torch.tensor([angle for _, angle in rays]) * (math.pi / 180)
    ways = torch.stack([angles.cos(), -angles.sin()], 1)
    new = _radii(sampler.head[middle_frame(training)].float() / 255, middles, ways)
    new = torch.where(new > 0, new + GROWN * sampler.frames.size_px, new)
    return middles, ways, new, _radii(starting_cover(training, occupancy), middles, ways)


def _middle_view(training: AvatarTraining) -> tuple[Tensor, Tensor]:
    """Camera (3, 4) and lens (4,) of `middle_frame`, pixels of the smallest size that is trained."""
    index, size = middle_frame(training), min(training.samplers)
    return training.cameras[index], training.lenses[index] * (size / training.frames.size_px)


def _radii(cover: Tensor, middles: Tensor, ways: Tensor) -> Tensor:
    """(A,) distance in pixels from `middles` (A, 2) to the last covered place along unit `ways` (A, 2); 0: unknown.

    Unknown: nothing is covered, or the head is cut by the picture's edge.
    """
    size = cover.shape[0]
    distances = torch.arange(PER_PX * size) / PER_PX
    places = (middles[:, None] + distances[None, :, None] * ways[:, None]) / size * 2 - 1
    found = functional.grid_sample(cover[None, None], places[None], align_corners=False)[0, 0]
    outermost = torch.where(found > COVERED, distances, torch.zeros(())).amax(1)
    ends = middles + outermost[:, None] * ways
    inside = ((ends > 1.5) & (ends < size - 1.5)).all(1)
    return torch.where(inside, outermost, torch.zeros(()))


def _projected(point: Tensor, camera: Tensor, lens: Tensor) -> Tensor:
    """(2,) pixels x, y of a canonical point (3,)."""
    local = (point - camera[:, 3]) @ camera[:, :3]
    return local[:2] / local[2] * lens[:2] + lens[2:]


def _unprojected(training: AvatarTraining, pixels: Tensor) -> Tensor:
    """(N, 3) canonical points behind pixels (N, 2) of `middle_frame`, in the plane of `CENTRE_CM` across the depth."""
    camera, lens = _middle_view(training)
    depth = float(training.space.from_head(np.array(CENTRE_CM))[2])
    rays = torch.cat([(pixels - lens[2:]) / lens[:2], torch.ones(len(pixels), 1)], 1) @ camera[:, :3].t()
    reach = (depth - camera[2, 3]) / rays[:, 2:]
    return camera[:, 3] + reach * rays
