"""What of an avatar's frontal picture is rendered, pixel by pixel: mouth box, face as ArcFace wants it, SyncNet's crop.

Rays go straight through the pixels of the wanted crop, so that alignment resamples nothing. Where the face lies follows
from the mean head (`model.face.head_shape`, in the avatar's own head axes and centimetres) before the avatar's camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.avatar import AvatarConfig
from model.errors import InputError
from model.face.head_shape import load_head_shape
from model.motion.face_points import EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, LIP_CORNERS
from model.radiance.camera import head_matrix

__all__ = [
    "ARCFACE_PX",
    "View",
    "arcface_view",
    "box_view",
    "head_in_picture",
    "mouth_view",
    "similarity",
    "syncnet_view",
]

ARCFACE_PX: Final = 112
ARCFACE_POINTS: Final = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Eyes, nose tip and mouth corners in a 112 x 112 face, pixel indices (Deng et al. 2019)."""
NOSE_TIP: Final = 1  # MediaPipe Face Mesh
SYNCNET_ABOVE, SYNCNET_BELOW, SYNCNET_BESIDE = 1.0, 1.8, 1.4  # of half the face box's longer side (run_pipeline.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A grid of pixels on the frontal picture.

    `to_picture` takes a pixel's centre (column + 0.5, row + 0.5, 1) to shares of the picture, x right and y down.
    """

    height_px: int
    width_px: int
    to_picture: tuple[tuple[float, float, float], tuple[float, float, float]]

    def __post_init__(self) -> None:
        if self.height_px < 1 or self.width_px < 1:
            raise InputError(f"a view needs pixels, got {self.height_px} x {self.width_px}")

    def centres(self) -> tuple[Tensor, Tensor]:
        """Shares x and y (height * width,) of every pixel's centre, row by row."""
        pixels = torch.arange(self.height_px * self.width_px)
        columns, rows = pixels % self.width_px + 0.5, pixels // self.width_px + 0.5
        (a, b, c), (d, e, f) = self.to_picture
        return a * columns + b * rows + c, d * columns + e * rows + f


def box_view(box: tuple[float, float, float, float], *, height_px: int, width_px: int) -> View:
    """A view of `box` (left, top, right, bottom, shares of the picture)."""
    left, top, right, bottom = box
    to_picture = (((right - left) / width_px, 0.0, left), (0.0, (bottom - top) / height_px, top))
    return View(height_px=height_px, width_px=width_px, to_picture=to_picture)


def mouth_view(config: AvatarConfig, *, height_px: int, width_px: int) -> View:
    """The avatar's mouth box, made wider or higher about its middle until the pixels are square."""
    left, top, right, bottom = config.mouth_box
    pixel = max((right - left) / width_px, (bottom - top) / height_px)
    half_x, half_y = pixel * width_px / 2, pixel * height_px / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return box_view((x - half_x, y - half_y, x + half_x, y + half_y), height_px=height_px, width_px=width_px)


def arcface_view(config: AvatarConfig) -> View:
    """The face at 112 x 112, eyes, nose and mouth corners of the mean head nearest to ArcFace's template."""
    head = head_in_picture(config)
    eyes = [head[list(corners)].mean(0) for corners in (EYE_CORNERS_RIGHT, EYE_CORNERS_LEFT)]
    found = np.stack([*eyes, head[NOSE_TIP], head[LIP_CORNERS[0]], head[LIP_CORNERS[1]]])
    template = np.asarray(ARCFACE_POINTS) + 0.5  # to pixel centres at +0.5
    a, b, x, y = similarity(template, found)
    return View(height_px=ARCFACE_PX, width_px=ARCFACE_PX, to_picture=((a, -b, x), (b, a, y)))


def syncnet_view(config: AvatarConfig, *, size_px: int) -> View:
    """The square that SyncNet's run_pipeline.py would cut around the mean head's landmarks."""
    head = head_in_picture(config)
    half = float((head.max(0) - head.min(0)).max()) / 2
    x, y = (float(v) for v in (head.max(0) + head.min(0)) / 2)
    beside = half * SYNCNET_BESIDE
    box = (x - beside, y - half * SYNCNET_ABOVE, x + beside, y + half * SYNCNET_BELOW)
    return box_view(box, height_px=size_px, width_px=size_px)


def head_in_picture(config: AvatarConfig) -> NDArray[np.float64]:
    """(478, 2) where the mean head's landmarks lie before the avatar's camera at rest pose, shares of the picture."""
    head_to_world = head_matrix(config.rest_pose.rotation_vector(), config.neck)
    to_camera = np.linalg.inv(config.camera.matrix()) @ head_to_world
    points = load_head_shape().neutral.astype(np.float64)
    x, y, z = (points @ to_camera[:3, :3].T + to_camera[:3, 3]).T
    fx, fy, cx, cy = config.camera.intrinsics(1)
    return np.stack([fx * x / z + cx, fy * y / z + cy], 1)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """a, b, x, y of the least-squares (a u - b v + x, b u + a v + y) from (N, 2) to (N, 2) (Umeyama 1991)."""
    u, v = source.T
    one, zero = np.ones_like(u), np.zeros_like(u)
    rows = np.concatenate([np.stack([u, -v, one, zero], 1), np.stack([v, u, zero, one], 1)])
    a, b, x, y = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    return float(a), float(b), float(x), float(y)
