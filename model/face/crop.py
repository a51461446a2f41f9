"""The square face crop (256 x 256) of talking-head data sets, as an affine map from source to crop pixels.

Rule: one square per clip, 1.9 times as wide as the face is high (chin to hairline, 90th percentile over the clip), its
middle 0.6 face heights above the chin (median over the clip), so that hair and chin are inside, and shifted into the
picture as far as the heads allow. While every frame's head stays in that square it does not move at all. If the head
leaves it, the square keeps its size (grown only if some frame's head is larger) and its middle follows along the least
way, smoothed over about a second, so that a crop never trembles with the landmarks. What lies outside the picture
repeats the picture's edge.

Pixel coordinates are continuous, with the origin at the outer corner of the top-left pixel (pixel centres at +0.5), as
landmarks and capture cameras have them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.errors import InputError

SIZE_PX = 256
SIDE_FACES = 1.9  # side of the square, face heights
MIDDLE_FACES = 0.6  # its middle above the chin, face heights
HAIR_FACES, BELOW_FACES, BESIDE_FACES = 0.35, 0.08, 0.12  # a head reaches so far beyond its landmarks, face heights
SMOOTH_FRAMES = 12.0  # standard deviation of the moving square's path
FOREHEAD, CHIN = 10, 152

Points = NDArray[np.float32]


class CropError(InputError):
    """Landmarks from which no crop can be planned."""


@dataclass(frozen=True)
class FaceCrop:
    """Source pixels to crop pixels for each frame of a clip: `crop = matrix @ (x, y, 1)`."""

    matrices: NDArray[np.float64]  # (T, 2, 3): the same scale in x and y, no rotation
    size_px: int
    fixed: bool  # the square never moves

    def apply(self, picture: NDArray[np.uint8], frame: int) -> NDArray[np.uint8]:
        """Crop a picture (H, W) or (H, W, C) of the given frame to (size, size[, C]).

        Shrinking averages over the source pixels (at least 2 x 2 samples a pixel); enlarging is bicubic.
        """
        matrix = self.matrices[frame]
        scale = float(matrix[0, 0])
        samples = int(np.ceil(1 / scale)) if scale < 1 else 1
        dense = _pixel_indices(matrix * samples)
        wide = (self.size_px * samples, self.size_px * samples)
        flags = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
        out = cv2.warpAffine(picture, dense, wide, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        if samples > 1:
            out = cv2.resize(out, (self.size_px, self.size_px), interpolation=cv2.INTER_AREA)
        return np.asarray(out, np.uint8)

    def points(self, points_px: Points) -> Points:
        """Source to crop pixels, (T, N, 2 or 3); a third coordinate (depth in pixels) is scaled alike."""
        scale = self.matrices[:, 0, 0][:, None, None]
        moved = points_px * scale
        moved[..., :2] += self.matrices[:, None, :, 2]
        return np.asarray(moved, np.float32)

    def source_points(self, points_px: Points) -> Points:
        """Crop to source pixels, the inverse of `points`."""
        moved = np.array(points_px, np.float64)
        moved[..., :2] -= self.matrices[:, None, :, 2]
        return np.asarray(moved / self.matrices[:, 0, 0][:, None, None], np.float32)

    def intrinsics(self, fx: float, fy: float, cx: float, cy: float, frame: int) -> tuple[float, float, float, float]:
        """A pinhole camera's fx, fy, cx, cy for the crop of one frame, pixels."""
        (scale, _, x), (_, _, y) = self.matrices[frame]
        return float(fx * scale), float(fy * scale), float(cx * scale + x), float(cy * scale + y)


def plan_crop(landmarks_px: Points, picture_px: tuple[int, int], *, size_px: int = SIZE_PX) -> FaceCrop:
    """The crop of a clip.

    Args:
        landmarks_px: (T, 478, 2 or 3), pixels, without gaps.
        picture_px: Height and width of the pictures.
        size_px: Side of the crop.

    Raises:
        CropError: There are no frames, or some are NaN.
    """
    if landmarks_px.ndim != 3 or not len(landmarks_px):
        raise CropError(f"landmarks have shape {landmarks_px.shape}; a crop needs (frames, 478, 2) with frames > 0")
    missing = int(np.isnan(landmarks_px[..., :2]).any((1, 2)).sum())
    if missing:
        raise CropError(f"{missing} of {len(landmarks_px)} frames have no landmarks; fill the gaps or cut them out")
    points = landmarks_px[..., :2].astype(np.float64)
    axis = points[:, FOREHEAD] - points[:, CHIN]
    height = np.linalg.norm(axis, axis=1)
    low, high = _head_boxes(points, axis, height)
    side = max(SIDE_FACES * float(np.quantile(height, 0.9)), float((high - low).max()))
    wish = np.median(points[:, CHIN] + MIDDLE_FACES * axis, axis=0)
    least, most = high - side / 2, low + side / 2  # where a frame's middle must lie
    if (least.max(0) <= most.min(0)).all():  # one square holds every head
        wish = np.clip(_into_picture(wish, side, picture_px), least.max(0), most.min(0))
    fixed = bool((least <= wish).all() and (wish <= most).all())
    middle = np.broadcast_to(wish, least.shape) if fixed else _follow(wish, least, most)
    scale = size_px / side
    matrices = np.zeros((len(points), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, :, 2] = size_px / 2 - scale * middle
    return FaceCrop(matrices, size_px, fixed)


def _head_boxes(
    points: NDArray[np.float64], axis: NDArray[np.float64], height: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner (T, 2) of each head with its hair."""
    top = points[:, FOREHEAD] + HAIR_FACES * axis
    beside, below = BESIDE_FACES * height, BELOW_FACES * height
    low = np.minimum(points.min(1) - np.stack([beside, 0 * below], 1), top)
    high = np.maximum(points.max(1) + np.stack([beside, below], 1), top)
    return low, high


def _into_picture(middle: NDArray[np.float64], side: float, picture_px: tuple[int, int]) -> NDArray[np.float64]:
    """The nearest middle of a square inside the picture; one that is too large overlaps at both sides, or above."""
    height, width = picture_px
    x = np.clip(middle[0], side / 2, width - side / 2) if side <= width else width / 2
    y = np.clip(middle[1], side / 2, height - side / 2) if side <= height else height - side / 2
    return np.array([x, y])


def _follow(start: NDArray[np.float64], least: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """A path (T, 2) that moves only when it must, smoothed, and never leaves `least`..`most`."""
    path = np.empty_like(least)
    here = start
    for frame in range(len(least)):
        here = np.clip(here, least[frame], most[frame])
        path[frame] = here
    smooth = gaussian_filter1d(path, SMOOTH_FRAMES, axis=0, mode="nearest")
    return np.asarray(np.clip(smooth, least, most), np.float64)


def _pixel_indices(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same map between pixel indices (centres at whole numbers), which is what OpenCV counts in."""
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return shifted
