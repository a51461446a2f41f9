"""From a rendered capture (exact labels) to an avatar folder: the shipped default avatar is made by this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.capture import ORBIT, Capture, CaptureFrames, join_frames
from model.errors import DataError
from model.face.ict_head import IctHead
from model.motion.space import load_motion_space
from model.training.avatar import STATE_FILE, AvatarTraining, AvatarTrainingConfig, run_training
from model.training.avatar_export import export_avatar
from model.training.capture_pairs import capture_motion
from model.training.warp_init import HeadMesh

HOLD_OUT = 60  # the last training frames, kept aside to measure turned heads; any prefix is balanced
CAPTURE_LICENCE = (
    "Apache-2.0; derived from ICT-FaceKit geometry (MIT, Copyright (c) 2020 USC Institute for Creative Technologies) "
    "and GRID corpus motion (CC BY 4.0, Cooke, Barker, Cunningham, Shao 2006)"
)


@dataclass(frozen=True)
class CaptureSet:
    """The frames trained on, and the rig's coefficients and gaze behind each."""

    frames: CaptureFrames
    coefficients: NDArray[np.float32]  # (F, E)
    gaze: NDArray[np.float32]  # (F, 2) yaw, pitch, rad


def load_captures(
    folder: Path, ict_head: Path, size_px: int, cache: Path, *, orbit: Path | None = None, hold_out: int = HOLD_OUT
) -> CaptureSet:
    """`train` of a capture without its last `hold_out` frames, and the `orbit` split of another (or the same) folder.

    Raises:
        DataError: A folder is no capture, a picture is missing, or all frames are held out.
    """
    parts = [_split(folder, ict_head, "train", size_px, cache, hold_out)]
    if orbit is not None:
        parts.append(_split(orbit, ict_head, ORBIT, size_px, cache, 0))
    return CaptureSet(
        join_frames([p.frames for p in parts]),
        np.concatenate([p.coefficients for p in parts]),
        np.concatenate([p.gaze for p in parts]),
    )


def prepare_training(
    capture: Capture, data: CaptureSet, config: AvatarTrainingConfig, ict_head: Path | None
) -> AvatarTraining:
    """A training at step 0; with the ICT-FaceKit arrays the warp starts from the head mesh, else from nothing."""
    training = AvatarTraining(config, data.frames, capture.camera(), capture.neck())
    if ict_head is not None:
        meta = capture.meta
        mesh = HeadMesh.build(
            IctHead.load(ict_head),
            meta["identity_weights"],
            meta["coeff_names"],
            meta["coeff_base"],
            np.array([eye["center"] for eye in meta["eyes"]], np.float32),
        )
        training.initialise_warp(mesh, data.coefficients, data.gaze)
    return training


def train_avatar(
    capture_folder: Path,
    ict_head: Path,
    folder: Path,
    config: AvatarTrainingConfig,
    runs: Path,
    *,
    name: str,
    orbit: Path | None = None,
    hold_out: int = HOLD_OUT,
    commands: tuple[str, ...] = (),
    report: Callable[[dict[str, float]], None] | None = None,
) -> None:
    """From a rendered capture to an avatar folder; pictures, curve and state are kept in `runs`.

    `commands` are named in the avatar as what made it.
    """
    capture = Capture.open(capture_folder)
    data = load_captures(capture_folder, ict_head, config.size_px, runs, orbit=orbit, hold_out=hold_out)
    resuming = (runs / STATE_FILE).is_file()
    training = prepare_training(capture, data, config, None if resuming else ict_head)
    run_training(training, runs, report)
    orbiting = sum(kind == ORBIT for kind in data.frames.kind)
    export_avatar(
        training,
        folder,
        name=name,
        motion_space=load_motion_space().hash,
        licence=CAPTURE_LICENCE,
        commands=commands,
        provenance=f"{capture.meta.get('description', 'rendered capture')}; {len(data.frames) - orbiting} frames of "
        f"`train` (the last {hold_out} held out) and {orbiting} of `orbit`, {training.step} steps",
    )


def _split(folder: Path, ict_head: Path, split: str, size_px: int, cache: Path, hold_out: int) -> CaptureSet:
    capture = Capture.open(folder)
    frames = capture.frames(split, size_px, capture_motion(ict_head, folder), cache)
    kept = len(frames) - hold_out
    if kept < 1:
        raise DataError(f"{folder} has {len(frames)} frames of `{split}`, and {hold_out} are to be held out")
    rows = capture.rows(split)[:kept]
    gaze = np.array([capture.meta["frames"][i]["gaze"] for i in rows], np.float32)
    return CaptureSet(frames.first(kept), capture.expression(rows), gaze)
