"""Motion of a rendered capture in the frozen space, and the moments it shares with the filmed speaker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import load_checkpoint
from model.errors import DataError
from model.face.ict_head import IctHead
from model.motion.space import ASSET, MotionSpaceConfig, load_motion_space
from model.training.motion_space import CaptureMotion, ict_motion
from model.training.motion_targets import load_motion

Array = NDArray[np.float32]
FPS = 25


def capture_motion(ict: Path, capture: Path) -> Array:
    """(F, 32) motion of every frame of a capture, from its coefficients and gaze."""
    vertices = load_checkpoint(ASSET, kind="motion-space", config_cls=MotionSpaceConfig).tensors["ict_vertices"]
    head = IctHead.load(ict).subset(vertices.numpy().astype(np.int64))
    motion = ict_motion(head, CaptureMotion.load(capture), load_motion_space())
    frames = json.loads((capture / "capture.json").read_text())["frames"]
    motion[:, 22:24] = np.array([f["gaze"] for f in frames], np.float32)
    return motion


def shared_moments(grid: Path, ict: Path, capture: Path) -> tuple[Array, Array]:
    """Motion (N, 32) of speaker and face at the moments that the capture was retargeted from.

    Raises:
        DataError: They share none.
    """
    speaker = load_motion(grid / "train") | load_motion(grid / "val")
    face = capture_motion(ict, capture)
    frames = json.loads((capture / "capture.json").read_text())["frames"]
    pairs = []
    for row, frame in zip(face, frames, strict=True):
        clip = speaker.get(frame.get("clip") or "")
        if clip is None or frame.get("kind") == "acted" or "t" not in frame:
            continue
        index = round(frame["t"] * FPS)
        if index < len(clip):
            pairs.append((clip[index], row))
    if not pairs:
        raise DataError(f"no frame of {capture} names a clip in {grid}; prepare the clips it was made from")
    return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
