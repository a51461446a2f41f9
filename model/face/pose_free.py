"""From tracked landmarks to displacement: head pose and identity removed, in inter-ocular units.

A clip's landmarks are laid onto a frontal template by a similarity (rotation, translation, scale) fitted to the
rigid upper-face points (Umeyama 1991), divided by the inter-ocular distance, and the person's own neutral face is
subtracted. What is left is motion of the face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.motion.face_points import (
    EYE_CORNERS_LEFT,
    EYE_CORNERS_RIGHT,
    LOWER_LIP_INNER,
    RIGID,
    UPPER_LIP_INNER,
)

Points = NDArray[np.float32]  # (T, 478, 3): x to the subject's left, y up, z out of the face


def image_to_head_axes(landmarks_px: Points) -> Points:
    """Pixels (x right, y down, z away) to head axes (x to the subject's left, y up, z out)."""
    return (landmarks_px * np.array([1.0, -1.0, -1.0], np.float32)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeadAlignment:
    """One similarity a frame, from head axes in pixels to the template."""

    scale: NDArray[np.float32]  # (T,): template units per pixel
    rotation: NDArray[np.float32]  # (T, 3, 3), for row vectors
    centre: NDArray[np.float32]  # (T, 1, 3): middle of the rigid points, pixels
    target: NDArray[np.float32]  # (3,): middle of the template's rigid points

    def apply(self, points: Points) -> Points:
        """Points (T, N, 3) of the same frames, in the template's place and units."""
        moved = self.scale[:, None, None] * ((points - self.centre) @ self.rotation)
        return np.asarray(moved + self.target, np.float32)


def head_alignment(points: Points, template: NDArray[np.float32]) -> HeadAlignment:
    """The similarity that lays each frame's rigid points (T, 478, 3) onto the template's (478, 3)."""
    rigid = list(RIGID)
    middle = template[rigid].mean(0)
    target = template[rigid] - middle
    centre = points[:, rigid].mean(1, keepdims=True)
    source = points[:, rigid] - centre
    u, s, vt = np.linalg.svd(np.einsum("tki,kj->tij", source, target))
    sign = np.sign(np.linalg.det(u @ vt))
    s[:, 2] *= sign
    u[:, :, 2] *= sign[:, None]
    scale = s.sum(1) / (source**2).sum((1, 2))
    return HeadAlignment(scale, u @ vt, centre, middle)


def align_to_template(points: Points, template: NDArray[np.float32]) -> Points:
    """Lay every frame onto the template (478, 3) by its rigid points; result in the template's units."""
    return head_alignment(points, template).apply(points)


def inter_ocular(points: NDArray[np.float32]) -> float:
    """Distance between the middles of the two eyes' corners, in the points' units; points (478, 3)."""
    right = points[list(EYE_CORNERS_RIGHT)].mean(0)
    left = points[list(EYE_CORNERS_LEFT)].mean(0)
    return float(np.linalg.norm(left - right))


def neutral_face(aligned: Points, *, closed_share: float = 0.15) -> NDArray[np.float32]:
    """The person's neutral: the median over frames whose lips are closest, among the stillest half of them."""
    gap = aligned[:, UPPER_LIP_INNER, 1] - aligned[:, LOWER_LIP_INNER, 1]
    speed = np.abs(np.gradient(gap))
    closed = gap <= np.quantile(gap, closed_share)
    still = closed & (speed <= np.median(speed[closed]))
    return np.asarray(np.median(aligned[still], axis=0), np.float32)
