"""The person cut out of any background without a trained segmenter: GrabCut (Rother et al. 2004), seeded by landmarks.

Slow and approximate: it works on a reduced picture, and clothes or hair of the background's colour go astray. A chroma
key or a segmenter is better wherever there is one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.alpha_edge import Mask, Plane, component_with
from model.face.face_regions import FaceFrame, Picture, face_mask

WORK_PX = 144  # longer side of the picture that is cut
FIRST_ROUNDS, NEXT_ROUNDS = 5, 2
MARGIN_PX = 7  # how far the outline may move between frames, on the reduced picture


class GrabCut:
    """Cuts consecutive frames; remembers the last outline."""

    def __init__(self) -> None:
        self._last: Mask | None = None
        self._last_points = np.zeros((0, 2), np.float32)

    def person(self, picture: Picture, landmarks_px: NDArray[np.float32]) -> Plane:
        """Person (H, W), 0..1, of the next frame."""
        height, width = picture.shape[:2]
        ratio = min(1.0, WORK_PX / max(height, width))
        size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        points = landmarks_px[:, :2] * np.array([size[0] / width, size[1] / height], np.float32)
        face = face_mask(points, small.shape) > 0
        seeds = _seeds(FaceFrame.of(points), face)
        rounds = FIRST_ROUNDS
        if self._last is not None and self._follows(points, seeds.shape):
            _confine(seeds, self._last)
            rounds = NEXT_ROUNDS
        cv2.setRNGSeed(0)  # its k-means starts at random
        models: tuple[Any, Any] = (np.zeros((1, 65)), np.zeros((1, 65)))
        if (seeds == cv2.GC_BGD).any():  # else the head fills the picture
            cv2.grabCut(small, seeds, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK)
        person = component_with((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD), face)
        self._last, self._last_points = person, points
        large = cv2.resize(person.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(large, 0, 1), np.float32)

    def _follows(self, points: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
        """Whether this frame can have followed the last: same size, no landmark moved beyond the margin."""
        if self._last is None or self._last.shape != shape or len(self._last_points) != len(points):
            return False
        return bool(np.linalg.norm(points - self._last_points, axis=1).max() < MARGIN_PX)


def _seeds(frame: FaceFrame, face: Mask) -> NDArray[np.uint8]:
    """Sure and likely places of the person around a face."""
    below, aside = frame.grid(face.shape)
    behind = aside - frame.skull_aside
    under, along = frame.body_grid(face.shape)
    along = np.abs(along)
    seeds = np.full(face.shape, cv2.GC_BGD, np.uint8)
    hair = (behind / 1.15) ** 2 + ((below + 0.6) / 1.0) ** 2 < 1
    seeds[hair | ((under > -0.1) & (along < 0.8 + 4.0 * np.maximum(under, 0)))] = cv2.GC_PR_FGD
    crown = (below < -0.95) & (below > -1.12) & (np.abs(behind) < 0.3)
    neck = (under > 0) & (under < 0.5) & (along < 0.2)
    chest = (under > 0.25) & (along < 0.3 + 2.5 * (under - 0.25))
    seeds[face | crown | neck | chest] = cv2.GC_FGD
    return seeds


def _confine(seeds: NDArray[np.uint8], last: Mask) -> None:
    """Let the outline move by MARGIN_PX only since the last frame."""
    kernel = np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8)
    person = last.astype(np.uint8)
    seeds[cv2.dilate(person, kernel) == 0] = cv2.GC_BGD
    seeds[cv2.erode(person, kernel, borderValue=1) > 0] = cv2.GC_FGD
    rim = (seeds == cv2.GC_PR_BGD) | (seeds == cv2.GC_PR_FGD)
    seeds[rim] = np.where(last, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)[rim]
