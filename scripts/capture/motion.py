"""A plan from prepared video: python -m scripts.capture.motion PREPARED --head HEAD --out MOTION.npz

PREPARED is what `nerf-lipsync prepare grid GRID --out PREPARED` writes (docs/faces.md). Its ARKit coefficients move
mouth, brows and lids; head turns, gaze, sound and words come from the same clips. Needs the project's environment, not
Blender.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from model.data.features import ClipFeatures, iterate_clips
from model.errors import ModelError
from model.motion.arkit import ARKIT_NAMES, GAZE_FULL_PITCH_RAD, GAZE_FULL_YAW_RAD
from scripts.capture.draw import STILLS, ClipMotion, draw_plan
from scripts.capture.errors import CaptureError, PlanError
from scripts.capture.head import HeadRig, load_head
from scripts.capture.person import IDENTITY_WEIGHTS, coefficient_names
from scripts.capture.plan import CLIP_FRAMES, FPS, ClipSound
from scripts.capture.plan_file import save_plan
from scripts.capture.shapes import Array

SAMPLES_PER_FRAME: Final = 640
MOVED: Final = (  # ARKit shapes taken over: mouth, jaw and brows
    "jawOpen mouthClose mouthFunnel mouthPucker mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper "
    "mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight mouthSmileLeft mouthSmileRight "
    "mouthFrownLeft mouthFrownRight mouthStretchLeft mouthStretchRight mouthPressLeft mouthPressRight "
    "mouthDimpleLeft mouthDimpleRight browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight"
).split()
BOTH_SIDES: Final = "browInnerUp"  # one coefficient where ICT-FaceKit has two
GAIN: Final = 1.15  # the rendered face moves a little more than the reading speaker's
UPPER_LIP, LOWER_LIP, EYE_CORNERS = 13, 14, (33, 263)  # MediaPipe's landmarks
TO_WORLD: Final = np.diag([1.0, -1.0, -1.0])  # from OpenCV's camera axes


def main(argv: Sequence[str] | None = None) -> int:
    """Write the plan; returns 1 when it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--head", type=Path, required=True, help="ict_facekit.npz, or a checkout of ICT-FaceKit")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stills", type=int, default=STILLS)
    args = parser.parse_args(argv)
    try:
        mesh = load_head(args.head)
        clips = read_motion(iterate_clips(args.prepared))
        rig, names = HeadRig(mesh, IDENTITY_WEIGHTS), coefficient_names(tuple(mesh.expressions))
        plan = draw_plan(clips, shape_names(), rig, names, args.stills)
        save_plan(args.out, plan)
    except (CaptureError, ModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {len(plan.frames)} frames from {len(clips)} clips; sequences {', '.join(plan.sounds)}")
    return 0


def shape_names() -> tuple[str, ...]:
    """ICT-FaceKit's names of the moved shapes, in the order of `ClipMotion.weights`."""
    found: list[str] = []
    for name in MOVED:
        if name == BOTH_SIDES:
            found += [f"{name}_L", f"{name}_R"]
        else:
            found.append(name.replace("Left", "_L").replace("Right", "_R"))
    return tuple(found)


def read_motion(clips: Iterable[ClipFeatures]) -> list[ClipMotion]:
    """Motion of every prepared clip that is long enough; all are taken to show one speaker.

    Raises:
        PlanError: None is long enough.
    """
    clips = [clip for clip in clips if len(clip.arkit) >= CLIP_FRAMES]
    if not clips:
        raise PlanError(f"no prepared clip has {CLIP_FRAMES} frames (3 s); prepare longer ones")
    blinks = np.concatenate([_lids(clip) for clip in clips])
    half_closed = float(np.median(blinks)) + 0.07
    closed = max(float(np.percentile(blinks, 99.3)), half_closed + 0.05)
    rotations = [Rotation.from_matrix(TO_WORLD @ clip.pose.rotation[:CLIP_FRAMES]) for clip in clips]
    mean = Rotation.concatenate(rotations).mean()
    gaze = np.concatenate([_gaze(clip) for clip in clips])
    straight = np.array([np.median(gaze[:, 0]), np.percentile(gaze[:, 1], 65)])
    found = []
    for clip, rotation in zip(clips, rotations, strict=True):
        blink = np.clip((_lids(clip) - half_closed) / (closed - half_closed), 0, 1)
        found.append(
            ClipMotion(
                name=clip.key,
                weights=_smooth(_weights(clip), 0.6),
                blink=_smooth(blink, 0.35),
                gaze=_smooth(_gaze(clip) - straight, 1.0),
                turn=_smooth((rotation * mean.inv()).as_rotvec(), 1.5),
                gap=_lip_gap(clip),
                sound=_sound(clip),
            )
        )
    return found


def _weights(clip: ClipFeatures) -> Array:
    columns: list[Array] = []
    for name in MOVED:
        column = np.clip(clip.arkit[:CLIP_FRAMES, ARKIT_NAMES.index(name)].astype(np.float64) * GAIN, 0, 1)
        columns += [column] * (2 if name == BOTH_SIDES else 1)
    return np.stack(columns, 1)


def _lids(clip: ClipFeatures) -> Array:
    both = [clip.arkit[:CLIP_FRAMES, ARKIT_NAMES.index(f"eyeBlink{side}")] for side in ("Left", "Right")]
    return np.maximum(*both).astype(np.float64)


def _gaze(clip: ClipFeatures) -> Array:
    """Yaw and pitch (T, 2), rad, from the eyeLook coefficients."""

    def look(name: str) -> Array:
        return clip.arkit[:CLIP_FRAMES, ARKIT_NAMES.index(f"eyeLook{name}")].astype(np.float64)

    yaw = (look("OutLeft") - look("InLeft") + look("InRight") - look("OutRight")) / 2 * GAZE_FULL_YAW_RAD
    pitch = (look("UpLeft") + look("UpRight") - look("DownLeft") - look("DownRight")) / 2 * GAZE_FULL_PITCH_RAD
    return np.stack([yaw, pitch], 1)


def _lip_gap(clip: ClipFeatures) -> Array:
    """Distance of the inner lips over that of the outer eye corners, (T,)."""
    points = clip.landmarks[:CLIP_FRAMES, :, :2].astype(np.float64)
    eyes = np.linalg.norm(points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]], axis=1)
    return np.asarray(np.linalg.norm(points[:, UPPER_LIP] - points[:, LOWER_LIP], axis=1) / eyes)


def _sound(clip: ClipFeatures) -> ClipSound:
    words = tuple(
        (w.text, round(w.start_frame / FPS, 3), round(w.end_frame / FPS, 3))
        for w in clip.words
        if w.start_frame < CLIP_FRAMES
    )
    return ClipSound(clip.audio[: CLIP_FRAMES * SAMPLES_PER_FRAME], words)


def _smooth(values: Array, frames: float) -> Array:
    return np.asarray(gaussian_filter1d(values, frames, axis=0, mode="nearest"))


if __name__ == "__main__":
    sys.exit(main())
