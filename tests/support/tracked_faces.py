"""Faces tracked in a process of their own, as `prepare` does it: MediaPipe once took a test run's process with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from model.data.capture import Capture
from model.data.preparing.isolation import Failure, IsolatedPool
from model.face.landmarks import track_face
from model.training.capture_faces import CaptureFaces, capture_faces
from model.training.face_analysis import landmark_head

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_S = 90.0
"""Ten times what it takes alone on a core; twice this is below a test's limit."""


def tracked_capture(data_folder: Path, split: str) -> CaptureFaces:
    """`capture_faces` of a split of the rendered capture."""
    return _apart(_capture, (data_folder, split))


def tracked_stills(clips: list[np.ndarray], data_folder: Path) -> list[np.ndarray]:
    """(N, 478, 3) landmarks of the largest face in each of the (N, H, W, 3) uint8 pictures, for every clip."""
    return _apart(_stills, (clips, data_folder))


def _capture(task: tuple[Path, str]) -> CaptureFaces:
    data_folder, split = task
    head = landmark_head(data_folder / "ict_facekit" / "ict_facekit.npz")
    return capture_faces(Capture.open(data_folder / "capture"), split, head, _bundle(data_folder))


def _stills(task: tuple[list[np.ndarray], Path]) -> list[np.ndarray]:
    clips, data_folder = task
    return [track_face(frames, _bundle(data_folder), stills=True).landmarks for frames in clips]


def _bundle(data_folder: Path) -> Path:
    return data_folder / "weights" / "face_landmarker.task"


def _apart(run: Callable[[T], R], task: T) -> R:
    """A process that dies is replaced once by the pool, one that hangs here."""
    for _attempt in range(2):
        with IsolatedPool(run, workers=1, timeout_s=TIMEOUT_S) as pool:
            ((_, result),) = pool.map([task])
        if not isinstance(result, Failure):
            return result
    raise AssertionError(f"tracking failed twice: {result.message}")
