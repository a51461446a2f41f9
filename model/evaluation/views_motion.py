"""How an avatar holds still and turns: equal frames for equal input, and no pops or crawling in a slow turn.

A slow turn is watched as a film: each frame is held against the one before it, moved onto it by optical flow, so that
the turn itself is left out and flicker, holes and jumping edges remain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.face.optical_flow import DisFlow
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.results import Figure

__all__ = ["STEP_DEG", "SlowTurn", "still_figures", "turn_figures", "turn_once", "uneven_change"]

STILL_FRAMES: Final = 50
MOST_YAW_DEG, STEP_DEG = 20.0, 0.2
POP_LEVELS: Final = 8.0
HEAD_ALPHA: Final = 0.02  # a pixel is the head's from this opacity on
UNEVEN_FRAMES, UNEVEN_STEP_DEG, UNSTEADY_LEVELS = 40, 0.1, 4.0

Frames = NDArray[np.uint8]  # (T, S, S, 3) RGB


@dataclass(frozen=True)
class SlowTurn:
    """A turn of the head from one side to the other, at rest otherwise."""

    yaws_deg: NDArray[np.float64]  # (T,)
    frames: Frames
    head: NDArray[np.bool_]  # (T, S, S)


def still_figures(renderer: AvatarRenderer, frames: int = STILL_FRAMES) -> dict[str, Figure]:
    """How many of `frames` pictures of one motion and pose differ from the first by a bit."""
    motion = np.zeros(renderer.avatar.config.field_config.motion_size, np.float32)
    pose = renderer.avatar.config.rest_pose
    first = renderer.render(motion, pose).copy()
    differing = sum(not np.array_equal(first, renderer.render(motion, pose)) for _ in range(frames - 1))
    return {"still_differing_frames": Figure(value=float(differing), unit="frames", goal=0.0, better="lower", n=frames)}


def turn_once(renderer: AvatarRenderer, most_deg: float = MOST_YAW_DEG, step_deg: float = STEP_DEG) -> SlowTurn:
    """Render the turn from -`most_deg` to `most_deg` about the rest pose's pitch and roll."""
    rest = renderer.avatar.config.rest_pose
    motion = np.zeros(renderer.avatar.config.field_config.motion_size, np.float32)
    yaws = np.linspace(-most_deg, most_deg, round(2 * most_deg / step_deg) + 1)
    frames, heads = [], []
    for yaw in yaws:
        pose = HeadPose(yaw_deg=float(yaw), pitch_deg=rest.pitch_deg, roll_deg=rest.roll_deg)
        rgba = renderer.render_head(motion, pose)
        heads.append(rgba[..., 3] > HEAD_ALPHA)
        frames.append(cv2.cvtColor(renderer.composite(rgba, None, pose), cv2.COLOR_YUV2RGB_I420))
    return SlowTurn(yaws, np.stack(frames).astype(np.uint8), np.stack(heads))


def turn_figures(turn: SlowTurn) -> dict[str, Figure]:
    """Change from frame to frame over the head, flow taken out: RMS, its worst frame, and the largest pop."""
    squared, pops = [], []
    for before, now, head in zip(turn.frames[:-1], turn.frames[1:], turn.head[1:], strict=True):
        change = np.abs(_moved_onto(before, now) - _luma(now))[head]
        squared.append(float((change**2).mean()))
        pops.append(float((change > POP_LEVELS).mean()))
    worst = int(np.argmax(pops))
    return {
        "turn_change_rms": Figure(
            value=round(float(np.sqrt(np.mean(squared))), 3), unit="levels", better="lower", n=len(squared)
        ),
        "turn_change_rms_worst": Figure(value=round(float(np.sqrt(max(squared))), 3), unit="levels", better="lower"),
        "turn_largest_pop": Figure(value=round(100 * pops[worst], 3), unit="%", goal=0.5, better="lower"),
        "turn_largest_pop_at": Figure(value=round(abs(float(turn.yaws_deg[worst + 1])), 1), unit="deg", better="lower"),
    }


def uneven_change(renderer: AvatarRenderer) -> tuple[float, float]:
    """Second differences of 8-bit luma in a turn of 0.1 degrees a frame with half as much nod.

    Returns:
        Share of pixels whose RMS over the turn exceeds 4 levels, and the RMS of all in levels (rounding to 8 bits alone
        gives about 0.7 where a picture changes).
    """
    motion = np.zeros(renderer.avatar.config.field_config.motion_size, np.float32)
    rest, start = renderer.avatar.config.rest_pose, UNEVEN_FRAMES / 2 * UNEVEN_STEP_DEG
    poses = [
        HeadPose(
            yaw_deg=rest.yaw_deg - start + UNEVEN_STEP_DEG * i,
            pitch_deg=rest.pitch_deg + UNEVEN_STEP_DEG / 2 * i,
            roll_deg=rest.roll_deg,
        )
        for i in range(UNEVEN_FRAMES)
    ]
    luma = np.stack([renderer.render(motion, pose)[: renderer.size_px].astype(np.float32) for pose in poses])
    power = np.diff(luma, n=2, axis=0) ** 2
    return float((np.sqrt(power.mean(0)) > UNSTEADY_LEVELS).mean()), float(np.sqrt(power.mean()))


def _moved_onto(before: Frames, now: Frames) -> NDArray[np.float32]:
    """Luma of the earlier frame, each pixel taken from where the flow says it was."""
    flow = DisFlow().flow(now, before)
    y, x = np.mgrid[: now.shape[0], : now.shape[1]].astype(np.float32)
    moved = cv2.remap(
        _luma(before), x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32)


def _luma(frame: Frames) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)
