"""A drawn person with known alpha and labels, and landmarks to go with it, for tests of matting."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.motion.space import load_motion_space

SIZE_PX = 256
SKIN, HAIR, CLOTH = (205, 150, 120), (60, 40, 30), (150, 60, 70)
IOD_PX = 42.0
FACE_MIDDLE = (128.0, 118.0)


@dataclass(frozen=True)
class DrawnPerson:
    """Straight colours, exact alpha and labels (1 head with neck and hair, 2 torso)."""

    colour: NDArray[np.float32]  # (S, S, 3)
    alpha: NDArray[np.float32]  # (S, S), 0..1
    labels: NDArray[np.uint8]  # (S, S)
    landmarks: NDArray[np.float32]  # (478, 3)

    def over(self, backdrop: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.uint8]:
        """The picture over a backdrop (S, S, 3), with camera noise."""
        mixed = self.alpha[..., None] * self.colour + (1 - self.alpha[..., None]) * backdrop
        noise = np.random.default_rng(seed).normal(0, 2.0, mixed.shape)
        return np.clip(np.rint(mixed + noise), 0, 255).astype(np.uint8)


def draw_person(*, open_mouth: bool = False) -> DrawnPerson:
    """A frontal person; hair as a cap around the skull, neck, sweater."""
    points = load_motion_space().template * np.array([1, -1, -1], np.float32) * IOD_PX
    points[:, :2] += np.array(FACE_MIDDLE, np.float32)
    if open_mouth:
        points[[14, 87, 317, 88, 318, 178, 402], 1] += 0.3 * IOD_PX
    chin, top = points[152, 1], points[10, 1]
    width = points[454, 0] - points[234, 0]
    up = 4  # drawn larger and averaged: exact soft edges
    big = (SIZE_PX * up, SIZE_PX * up)
    hair, skin, cloth = (np.zeros(big, np.uint8) for _ in range(3))
    x = FACE_MIDDLE[0]
    middle = (chin + top) / 2
    axes = (round(0.58 * width * up), round((0.78 * (chin - top)) * up))
    cv2.ellipse(hair, (round(x * up), round((middle - 10) * up)), axes, 0, 180, 360, 1, -1)
    axes = (round(0.5 * width * up), round(0.53 * (chin - top) * up))
    cv2.ellipse(skin, (round(x * up), round(middle * up)), axes, 0, 0, 360, 1, -1)
    neck = 0.3 * width
    corner = (round((x - neck) * up), round((chin - 25) * up)), (round((x + neck) * up), round((chin + 26) * up))
    cv2.rectangle(skin, *corner, 1, -1)
    shoulders = np.array([[x - 120, 300], [x - 95, chin + 34], [x - neck, chin + 18], [x + neck, chin + 18]])
    shoulders = np.concatenate([shoulders, [[x + 95, chin + 34], [x + 120, 300]]])
    cv2.fillPoly(cloth, [np.rint(shoulders * up).astype(np.int32)], 1)
    skin[cloth > 0] = 0
    hair[(skin > 0) | (cloth > 0)] = 0
    shares = [_average(part, up) for part in (hair, skin, cloth)]
    alpha = sum(shares)
    mixed = sum(s[..., None] * np.array(c, np.float32) for s, c in zip(shares, (HAIR, SKIN, CLOTH), strict=True))
    colour = mixed / np.maximum(alpha, 1e-3)[..., None]
    labels = np.where(alpha < 0.5, 0, np.where(shares[2] > 0.5 * alpha, 2, 1)).astype(np.uint8)
    return DrawnPerson(colour.astype(np.float32), alpha.astype(np.float32), labels, points.astype(np.float32))


def lit_backdrop(colour: tuple[float, float, float], light: float = 1.0) -> NDArray[np.float32]:
    """A plain backdrop, brighter at the upper left."""
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX] / SIZE_PX
    fall = light * (1.1 - 0.4 * np.hypot(x - 0.2, y - 0.1))
    return np.clip(fall[..., None] * np.array(colour), 0, 255).astype(np.float32)


def patterned_backdrop(seed: int = 0) -> NDArray[np.float32]:
    """Colourful blotches, as a room behind a person may look."""
    rng = np.random.default_rng(seed)
    blotches = rng.uniform(30, 225, (9, 9, 3)).astype(np.float32)
    return np.clip(cv2.resize(blotches, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC), 0, 255)


def _average(mask: NDArray[np.uint8], up: int) -> NDArray[np.float32]:
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7 * up)
    return cv2.resize(soft, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
