"""The exact truth behind every frame: matrices, landmarks and lip contours, in space and in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from scripts.capture.camera import camera_matrix, project
from scripts.capture.head import FACE, LANDMARKS, HeadRig
from scripts.capture.plan import ORBIT, FramePlan
from scripts.capture.shapes import Array, catmull_rom


class FramePoints(NamedTuple):
    """Points of one frame: pixels (P, 2) and world (P, 3). Landmarks first, then outer and inner lips."""

    pixels: Array
    world: Array


@dataclass(frozen=True)
class LipRings:
    """Closed contours as vertex numbers."""

    outer: tuple[int, ...]
    inner: tuple[int, ...]

    @classmethod
    def of(cls, rig: HeadRig) -> LipRings:
        """Vertices next to smooth curves through the lip landmarks of an open mouth, where the lips lie apart."""
        opened = rig.expressed({"jawOpen": 0.5, "mouthFunnel": 0.3})
        tree, marks = cKDTree(opened[:FACE]), opened[list(LANDMARKS)]

        def ring(first: int, end: int) -> tuple[int, ...]:
            found = tree.query(catmull_rom(marks[first:end], 6, closed=True))[1]
            return tuple(dict.fromkeys(int(i) for i in found))

        return cls(ring(48, 60), ring(60, 68))


class FrameLabels:
    """Computes the labels of one person's frames."""

    def __init__(self, rig: HeadRig, names: Sequence[str], size_px: int) -> None:
        self.rings = LipRings.of(rig)
        self._rig, self._names, self._size_px = rig, names, size_px
        self._vertices = np.array([*LANDMARKS, *self.rings.outer, *self.rings.inner])

    def of(self, frame: FramePlan) -> tuple[dict[str, Any], FramePoints]:
        """The frame's entry in capture.json, and its points."""
        coefficients = dict(zip(self._names, frame.coefficients, strict=True))
        vertices, head = self._rig.posed(self._rig.expressed(coefficients), np.array(frame.head_rotvec))
        camera = camera_matrix(frame.cam_yaw_deg, frame.cam_pitch_deg)
        world = vertices[self._vertices]
        pixels = project(world, camera, self._size_px)
        eyes = [head[:3, :3] @ center + head[:3, 3] for center, _ in self._rig.eyes]
        entry: dict[str, Any] = {
            "file": f"{frame.name}.webp",
            "mask": f"mask/{frame.name}.png",
            "split": frame.split,
            "index": frame.index,
            "head_matrix": head.round(6).tolist(),
            "cam_to_world": camera.round(6).tolist(),
            "coeff": list(frame.coefficients),
            "gaze": list(frame.gaze),
            "head_rotvec": list(frame.head_rotvec),
            "cam_yaw_deg": frame.cam_yaw_deg,
            "landmarks2d": pixels[: len(LANDMARKS)].round(2).tolist(),
            "eye_centers": [eye.round(4).tolist() for eye in eyes],
        }
        if frame.split == ORBIT:
            entry["cam_pitch_deg"] = frame.cam_pitch_deg
        notes = {k: list(v) if isinstance(v, tuple) else v for k, v in frame.notes.items()}
        return {**entry, **notes}, FramePoints(pixels, world)
