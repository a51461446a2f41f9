"""Parts of a person in a picture, from landmarks: where a face lies; what is head, torso or mouth interior.

The neck belongs to the head (labels as in a rendered capture). Head and torso are told apart by colours learned from
the clip itself (face and hair against the lowest part of the person), or by a segmenter's classes, together with the
place below the chin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.motion.face_points import (
    EYE_CORNERS_LEFT,
    EYE_CORNERS_RIGHT,
    LIPS_INNER,
    LOWER_LIP_INNER,
    UPPER_LIP_INNER,
)

NOSE_TIP, FOREHEAD, CHIN, SIDE_RIGHT, SIDE_LEFT = 1, 10, 152, 234, 454
SKULL_DEPTH = 0.6  # the skull's middle lies so much behind the ears as the nose tip lies before them
MOUTH_OPEN_GAP = 0.04  # inner-lip gap over the inter-ocular distance from which a mouth interior is drawn
NECK_END = 0.3  # face heights below the chin where head and torso are equally likely before colour is asked
NECK_HALF_WIDTH = 0.42  # face widths
COLOUR_BINS = 16
MEMORY = 0.9  # share of the learned colours kept from frame to frame
COLOUR_FLOOR = 1e-4  # probability of colours never seen
LONG_HAIR_SHARE = 0.25  # of the places beside the jaw that hold hair when it hangs below the chin
SUBPIXEL_BITS = 4

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Plane = NDArray[np.float32]  # (H, W)


class Label(IntEnum):
    """Values of a label picture."""

    BACKGROUND = 0
    HEAD = 1  # with neck, eyes and hair
    TORSO = 2
    MOUTH = 3  # interior: teeth, tongue, cavity


@dataclass(frozen=True, slots=True)
class FaceFrame:
    """The face's own axes in the picture, pixels; the origin is the chin."""

    chin: NDArray[np.float32]  # (2,)
    up: NDArray[np.float32]  # (2,) unit vector from chin to forehead
    height_px: float  # chin to hairline
    width_px: float  # ear to ear
    skull_aside: float  # face widths from the chin to the middle of the skull: turned heads show their back on one side

    @classmethod
    def of(cls, landmarks_px: NDArray[np.float32]) -> FaceFrame:
        """From landmarks (478, 2 or 3)."""
        points = landmarks_px[:, :2]
        axis = points[FOREHEAD] - points[CHIN]
        height = max(float(np.linalg.norm(axis)), 1e-6)
        width = max(float(np.linalg.norm(points[SIDE_LEFT] - points[SIDE_RIGHT])), 0.5 * height)
        up = axis / height
        right = np.array([-up[1], up[0]], np.float32)
        ears = (points[SIDE_LEFT] + points[SIDE_RIGHT]) / 2
        turned = float((points[NOSE_TIP] - ears) @ right)
        middle = float((ears - points[CHIN]) @ right) - SKULL_DEPTH * turned
        return cls(points[CHIN], up, height, width, middle / width)

    def grid(self, shape: tuple[int, ...]) -> tuple[Plane, Plane]:
        """For each pixel centre: face heights below the chin, and face widths aside (to the picture's right)."""
        x = np.arange(shape[1], dtype=np.float32)[None] + 0.5 - self.chin[0]
        y = np.arange(shape[0], dtype=np.float32)[:, None] + 0.5 - self.chin[1]
        below = -(x * self.up[0] + y * self.up[1]) / self.height_px
        aside = (y * self.up[0] - x * self.up[1]) / self.width_px
        return below.astype(np.float32), aside.astype(np.float32)

    def body_grid(self, shape: tuple[int, ...]) -> tuple[Plane, Plane]:
        """The same upright and from the middle of the skull: torsos do not nod or turn with the head."""
        centre = self.chin[0] - self.skull_aside * self.width_px * self.up[1]
        x = np.arange(shape[1], dtype=np.float32)[None] + 0.5 - centre
        y = np.arange(shape[0], dtype=np.float32)[:, None] + 0.5 - self.chin[1]
        below, aside = np.broadcast_arrays(y / self.height_px, x / self.width_px)
        return below.astype(np.float32), aside.astype(np.float32)

    def surroundings(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """(H, W) True beside and above the head, where a backdrop shows unless hair is very wide."""
        below, aside = self.grid(shape)
        outside = ((aside - self.skull_aside) / 1.15) ** 2 + ((below + 0.55) / 1.05) ** 2 > 1
        return np.asarray(outside & (below < 0), np.bool_)


def face_mask(landmarks_px: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W) 1 inside the convex hull of the landmarks."""
    mask = np.zeros(shape[:2], np.uint8)
    hull = cv2.convexHull(np.ascontiguousarray(landmarks_px[:468, :2], np.float32))
    cv2.fillConvexPoly(mask, _fixed_point(np.asarray(hull[:, 0], np.float32)), 1, shift=SUBPIXEL_BITS)
    return mask


def mouth_interior(landmarks_px: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W) 1 inside the inner lips; all 0 while the lips are closed (gap below 4 % of the inter-ocular distance)."""
    mask = np.zeros(shape[:2], np.uint8)
    points = landmarks_px[:, :2]
    eyes = points[list(EYE_CORNERS_LEFT)].mean(0) - points[list(EYE_CORNERS_RIGHT)].mean(0)
    gap = np.linalg.norm(points[UPPER_LIP_INNER] - points[LOWER_LIP_INNER])
    if gap >= MOUTH_OPEN_GAP * np.linalg.norm(eyes):
        cv2.fillPoly(mask, [_fixed_point(points[list(LIPS_INNER)])], 1, shift=SUBPIXEL_BITS)
    return mask


class RegionSplitter:
    """Labels the person of consecutive frames; remembers the colours of head and torso."""

    def __init__(self) -> None:
        self._skin: Any = None  # colour histograms (16, 16, 16), sums 1
        self._hair: Any = None
        self._torso: Any = None

    def labels(
        self,
        picture: Picture,
        person: NDArray[np.bool_],
        landmarks_px: NDArray[np.float32],
        class_odds: Plane | None = None,
    ) -> NDArray[np.uint8]:
        """Label picture (H, W), see `Label`.

        Args:
            picture: (H, W, 3) RGB.
            person: (H, W) where a person is.
            landmarks_px: (478, 2 or 3).
            class_odds: Log-odds of head against torso by a segmenter; without it colours are learned.
        """
        frame = FaceFrame.of(landmarks_px)
        below, aside = frame.grid(picture.shape)
        face = face_mask(landmarks_px, picture.shape)
        odds = _place_odds(below, aside)
        if class_odds is None:
            class_odds = self._colour_odds(picture, person, below, aside, face > 0)
        odds += cv2.blur(class_odds, (5, 5))
        head = _near_face(((odds > 0) & person) | ((face > 0) & person), face)
        labels = np.where(person, np.where(head, Label.HEAD, Label.TORSO), Label.BACKGROUND).astype(np.uint8)
        labels[(mouth_interior(landmarks_px, picture.shape) > 0) & person] = Label.MOUTH
        return labels

    def _colour_odds(
        self, picture: Picture, person: NDArray[np.bool_], below: Plane, aside: Plane, face: NDArray[np.bool_]
    ) -> Plane:
        """Log-odds of head against torso by colour; hair counts below the chin only where it hangs that far."""
        bins = (picture >> 4).astype(np.int32)
        index = (bins[..., 0] * COLOUR_BINS + bins[..., 1]) * COLOUR_BINS + bins[..., 2]
        width = np.abs(aside)
        neck = person & (below > 0) & (below < 0.12) & (width < 0.2)
        hair = person & (below < -0.95) & (width < 0.8)
        lowest = float(below[person].max(initial=0.0)) - 0.3
        torso = person & (below > min(max(lowest, 0.05), 0.7)) & (width > 0.55)
        self._skin = _remember(self._skin, _histogram(index, face | neck))
        self._hair = _remember(self._hair, _histogram(index, hair))
        self._torso = _remember(self._torso, _histogram(index, torso))
        if self._torso is None or self._skin is None:
            return np.zeros(picture.shape[:2], np.float32)
        odds = np.asarray(_log_odds(self._skin, self._torso)[index], np.float32)
        beside_jaw = (below > -0.2) & (below < -0.02) & (width > 0.5) & (width < 0.9)
        if self._hair is not None and (person & beside_jaw).sum() > LONG_HAIR_SHARE * max(beside_jaw.sum(), 1):
            odds = np.maximum(odds, _log_odds(self._hair, self._torso)[index])
        return odds


def _log_odds(head: Any, torso: Any) -> Any:
    return np.log((head + COLOUR_FLOOR) / (torso + COLOUR_FLOOR)).clip(-4, 4).astype(np.float32).ravel()


def _place_odds(below: Plane, aside: Plane) -> Plane:
    """Log-odds of head against torso by place alone: high above the chin, falling along the neck and to its sides."""
    along = np.clip(4.0 * (1.0 - below / NECK_END), -6.0, 8.0)
    beside = np.maximum(np.abs(aside) - NECK_HALF_WIDTH, 0.0) * np.clip(below + 0.25, 0.0, 0.5)
    return np.asarray(along - 40.0 * beside, np.float32)


def _near_face(head: NDArray[np.bool_], face: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The part of `head` that hangs together with the face, its rim smoothed."""
    smooth = cv2.medianBlur(head.astype(np.uint8), 5)
    count, parts = cv2.connectedComponents(smooth, connectivity=4)
    votes = np.bincount(parts[(face > 0) & (smooth > 0)], minlength=count)
    votes[0] = 0
    return np.asarray(parts == votes.argmax(), np.bool_) if votes.any() else head


def _histogram(index: NDArray[np.int32], where: NDArray[np.bool_]) -> Any:
    values = index[where]
    if len(values) < 50:
        return None
    counts = np.bincount(values, minlength=COLOUR_BINS**3).astype(np.float32).reshape((COLOUR_BINS,) * 3)
    for axis in range(3):  # neighbouring colours count too
        padded = np.pad(counts, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        counts = counts * 0.5 + 0.25 * (np.roll(padded, 1, axis) + np.roll(padded, -1, axis)).take(
            np.arange(1, COLOUR_BINS + 1), axis
        )
    return counts / counts.sum()


def _remember(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return old if new is None else new
    return MEMORY * old + (1 - MEMORY) * new


def _fixed_point(points: NDArray[np.float32]) -> NDArray[np.int32]:
    """Picture coordinates (pixel centres at +0.5) as OpenCV's fixed-point vertices (pixel centres at 0)."""
    return np.asarray(np.rint((points - 0.5) * (1 << SUBPIXEL_BITS)), np.int32)
