"""Draws a plan from tracked motion: which moments become stills, sequences and novel views. Pure, from one seed.

Most stills are farthest-point samples of mouth and brow shapes, so that rare shapes are there; the rest are random
moments, closed mouths, and acted shapes that reading aloud never shows. Any prefix of the stills is balanced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from scripts.capture.errors import PlanError
from scripts.capture.head import LANDMARKS, HeadRig
from scripts.capture.plan import (
    CLIP_FRAMES,
    FPS,
    NOVEL,
    SEQUENCE,
    TRAIN,
    ClipSound,
    Expression,
    FramePlan,
    Plan,
    sharpened_blink,
)
from scripts.capture.shapes import Array, Index

SEED: Final = 11
STILLS: Final = 1000
SEQUENCES: Final = 3
LIVELIEST_SKIPPED: Final = 3  # too lively: tracking errors move much
KINDS: Final = (("random", 0.23, 0.001), ("closed", 0.15, 0.002), ("acted", 0.06, 0.003))  # share, start of its ramp
FOLLOWING: Final = 0.75  # of a head turn is taken back by the eyes
LIMIT_DEG: Final = np.array([25.0, 12.0, 8.0])  # yaw, pitch, roll
NOVEL_YAWS_DEG: Final = (-20, -10, 0, 10, 20)
# fmt: off
NOVEL_POSES_DEG: Final = (
    (0, 0, 0), (6, -3, 1), (-8, 2, -2), (3, 4, 0), (-4, -2, 2), (9, 1, -1),
    (0, -5, 0), (-6, 3, 1), (5, 0, -2), (-2, 2, 2), (0, 0, 0), (4, -2, 1),
)
# fmt: on
Notes = dict[str, str | int | float | tuple[float, ...]]
FEATURE_POINTS: Final = (*range(48, 68), 8, 19, 24)  # landmarks whose movement tells shapes apart


@dataclass(frozen=True)
class ClipMotion:
    """One clip's motion: CLIP_FRAMES rows each.

    `weights` (T, K) are shapes in the order of the plan's motion names, `blink` (T,) 0..1, `gaze` (T, 2) rad, `turn`
    (T, 3) rotation vector against the speaker's mean pose, `gap` (T,) lip opening in any unit.
    """

    name: str
    weights: Array
    blink: Array
    gaze: Array
    turn: Array
    gap: Array
    sound: ClipSound


class _Moments(NamedTuple):
    """All frames that may become stills: weights (N, K), lip gap (N,), and where each is from."""

    weights: Array
    gap: Array
    source: list[tuple[str, int]]


class Pose(NamedTuple):
    """Head angles in degrees: R = Ry(yaw) Rx(pitch) Rz(roll)."""

    yaw: float
    pitch: float
    roll: float

    def rotvec(self) -> tuple[float, float, float]:
        """Rotation vector (rad), as the labels store it."""
        found = Rotation.from_euler("YXZ", list(self), degrees=True).as_rotvec().round(5)
        return float(found[0]), float(found[1]), float(found[2])

    def countered_gaze(self) -> tuple[float, float]:
        """Where the eyes look, in head space (rad), when they mostly stay on the camera."""
        return -FOLLOWING * float(np.radians(self.yaw)), FOLLOWING * float(np.radians(self.pitch))


def draw_plan(
    clips: Sequence[ClipMotion], shapes: Sequence[str], rig: HeadRig, names: Sequence[str], stills: int = STILLS
) -> Plan:
    """A plan of three sequences, `stills` stills and 60 novel views; `shapes` name the columns of the weights.

    Raises:
        PlanError: There are too few clips or frames.
    """
    held = choose_sequences(clips)
    rest = [clip for clip in clips if clip not in held]
    if len(rest) * CLIP_FRAMES < stills or len(rest) * CLIP_FRAMES < len(NOVEL_POSES_DEG):
        raise PlanError(
            f"{len(clips)} clips leave {len(rest) * CLIP_FRAMES} frames beside the sequences; {stills} stills need more"
        )
    rng = np.random.default_rng(SEED)
    frames = [f for number, clip in enumerate(held) for f in _sequence(number, clip, shapes, names, rng)]
    moments = _Moments(
        np.concatenate([c.weights for c in rest]),
        np.concatenate([c.gap for c in rest]),
        [(c.name, k) for c in rest for k in range(CLIP_FRAMES)],
    )
    basis = np.stack([rig.shape(n)[[LANDMARKS[p] for p in FEATURE_POINTS]].ravel() for n in shapes])
    movement = moments.weights @ basis
    neutral = neutral_moments(movement, moments.gap)
    chosen = choose_moments(movement, neutral, stills, rng)
    for index, (kind, row) in enumerate(chosen):
        frames.append(_still(index, kind, row, moments, shapes, names, rng))
    frames += _novel_views(farthest_points(movement, 10, int(neutral[0])), moments, shapes, names)
    return Plan(tuple(names), tuple(frames), {clip.name: clip.sound for clip in held})


def choose_sequences(clips: Sequence[ClipMotion]) -> list[ClipMotion]:
    """Three lively clips with different first letters (words, in GRID), as far as there are such.

    Raises:
        PlanError: There are too few clips.
    """
    if len(clips) <= SEQUENCES + LIVELIEST_SKIPPED:
        raise PlanError(f"{len(clips)} clips of {CLIP_FRAMES} frames; a plan needs {SEQUENCES + LIVELIEST_SKIPPED + 1}")
    lively = sorted(clips, key=lambda c: float(np.abs(np.diff(c.weights, axis=0)).sum()), reverse=True)
    lively = lively[LIVELIEST_SKIPPED:]
    first_of: dict[str, ClipMotion] = {}
    for clip in lively:
        first_of.setdefault(clip.name[:1], clip)
    found = list(first_of.values())
    return (found + [clip for clip in lively if clip not in found])[:SEQUENCES]


def neutral_moments(movement: Array, gap: Array) -> Index:
    """Rows with closed lips and little movement of mouth and brows."""
    size = np.linalg.norm(movement, axis=1)
    found = np.flatnonzero((gap < np.percentile(gap, 22)) & (size < np.percentile(size, 45)))
    return found if len(found) else np.array([int(size.argmin())])


def farthest_points(movement: Array, count: int, start: int) -> list[int]:
    """Rows picked one by one, each the farthest from all before."""
    chosen = [start]
    distance = np.linalg.norm(movement - movement[start], axis=1)
    while len(chosen) < count:
        row = int(distance.argmax())
        chosen.append(row)
        distance = np.minimum(distance, np.linalg.norm(movement - movement[row], axis=1))
    return chosen


def choose_moments(movement: Array, neutral: Index, stills: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Kind and row of each still, interleaved so that any prefix is balanced."""
    counts = {kind: round(share * stills) for kind, share, _ in KINDS}
    farthest = farthest_points(movement, stills - sum(counts.values()), int(neutral[0]))
    taken = set(farthest)
    random = [int(i) for i in rng.permutation(len(movement)) if int(i) not in taken][: counts["random"]]
    rows = {
        "fps": farthest,
        "random": random,
        "closed": [int(i) for i in rng.choice(neutral, counts["closed"])],
        "acted": [int(i) for i in rng.choice(len(movement), counts["acted"])],
    }
    starts = {"fps": 0.0, **{kind: start for kind, _, start in KINDS}}
    place = np.concatenate([np.linspace(starts[kind], 1, len(found)) for kind, found in rows.items()])
    items = [(kind, row) for kind, found in rows.items() for row in found]
    return [items[i] for i in np.argsort(place, kind="stable")]


def _sequence(
    number: int, clip: ClipMotion, shapes: Sequence[str], names: Sequence[str], rng: np.random.Generator
) -> list[FramePlan]:
    """A clip's frames: the speaker's own head turns, a little larger, over a slow sway."""
    sway = np.stack([_sway(rng, 14, 5.0), _sway(rng, 14, 2.5), _sway(rng, 16, 1.8)], 1)
    own = np.clip(np.degrees(clip.turn) * 1.3, -6, 6)
    frames = []
    for k in range(CLIP_FRAMES):
        face = Expression(names, dict(zip(shapes, clip.weights[k], strict=True)))
        pose = Pose(*(sway[k] + own[k, [1, 0, 2]]))
        yaw, pitch = pose.countered_gaze()
        gaze = (yaw + 0.10 * float(clip.gaze[k, 0]), pitch + 0.10 * float(clip.gaze[k, 1]))
        face.look(*gaze)
        face.close_eyes(sharpened_blink(float(clip.blink[k])))
        notes: Notes = {"clip": clip.name, "t": round(k / FPS, 3)}
        frames.append(_frame(SEQUENCE, number * CLIP_FRAMES + k, face, pose, gaze, notes))
    return frames


def _sway(rng: np.random.Generator, smoothing: float, largest_deg: float) -> Array:
    raw = rng.normal(size=CLIP_FRAMES + 60)
    smooth = gaussian_filter1d(raw, smoothing)[30:-30]
    return np.asarray(smooth * largest_deg / (np.abs(smooth).max() + 1e-9))


def _still(
    index: int,
    kind: str,
    row: int,
    moments: _Moments,
    shapes: Sequence[str],
    names: Sequence[str],
    rng: np.random.Generator,
) -> FramePlan:
    """One still: a moment or an acted shape, with brows, blink, gaze and head pose of its own."""
    pose = _turned(rng)
    moment = dict(zip(shapes, moments.weights[row], strict=True))
    act = ACTS[index % len(ACTS)] if kind == "acted" else None
    spoken = act is None or act is _smile_more
    face = Expression(names, moment if spoken else None)
    if act is not None:
        act(face, rng)
    elif kind != "closed" and rng.random() < 0.12:
        smile = rng.uniform(0.1, 0.5)
        face.add(mouthSmile=smile, cheekSquint=0.5 * smile)
    _move_brows(face, rng)
    gaze = _look_around(pose, rng)
    face.look(*gaze)
    if rng.random() < 0.085:
        face.close_eyes(rng.uniform(0.35, 1.0))
    clip, clip_frame = moments.source[row]
    notes: Notes = {"kind": kind}
    if spoken:
        notes |= {"clip": clip, "clip_frame": clip_frame}
    notes["yaw_pitch_roll_deg"] = tuple(round(float(angle), 2) for angle in pose)
    return _frame(TRAIN, index, face, pose, gaze, notes)


def _turned(rng: np.random.Generator) -> Pose:
    """A head pose: 60 % uniform over the range, 40 % near the center."""
    if rng.random() < 0.6:
        return Pose(*(rng.uniform(-limit, limit) for limit in LIMIT_DEG))
    near = [rng.normal() * sigma for sigma in (8, 4, 2.5)]
    return Pose(*np.clip(near, -LIMIT_DEG, LIMIT_DEG).tolist())


def _move_brows(face: Expression, rng: np.random.Generator) -> None:
    drawn = rng.random()
    if drawn < 0.15:
        raised = rng.uniform(0.2, 0.7)
        face.add(browInnerUp=raised)
        for side in "LR":
            face.add(**{f"browOuterUp_{side}": raised * rng.uniform(0.5, 1)})
    elif drawn < 0.22:
        face.add(browDown=rng.uniform(0.2, 0.6))


def _look_around(pose: Pose, rng: np.random.Generator) -> tuple[float, float]:
    """Mostly about the camera, sometimes anywhere (rad, head space)."""
    if rng.random() < 0.7:
        yaw, pitch = pose.countered_gaze()
        return yaw + rng.normal() * 0.04, pitch + rng.normal() * 0.03
    return rng.uniform(-0.35, 0.35), rng.uniform(-0.2, 0.15)


def _smile(face: Expression, rng: np.random.Generator) -> None:
    x = rng.uniform(0.3, 0.9)
    face.set(mouthSmile=x, cheekSquint=0.6 * x, jawOpen=rng.uniform(0, 0.12))
    face.add(eyeSquint=0.25 * x)


def _open_wide(face: Expression, rng: np.random.Generator) -> None:
    face.set(jawOpen=rng.uniform(0.3, 0.75))


def _pucker(face: Expression, rng: np.random.Generator) -> None:
    face.set(mouthPucker=rng.uniform(0.4, 1), mouthFunnel=rng.uniform(0, 0.4))


def _bare_teeth(face: Expression, rng: np.random.Generator) -> None:
    x = rng.uniform(0.3, 0.7)
    face.set(mouthSmile=x, mouthUpperUp=0.5 * x, mouthLowerDown=0.6 * x, jawOpen=rng.uniform(0.1, 0.3))


def _press_lips(face: Expression, rng: np.random.Generator) -> None:
    face.set(mouthPress=rng.uniform(0.2, 0.6), mouthRollLower=rng.uniform(0, 0.4), mouthRollUpper=rng.uniform(0, 0.3))


def _smile_more(face: Expression, rng: np.random.Generator) -> None:
    for side in "LR":
        face.add(**{f"mouthSmile_{side}": rng.uniform(0.2, 0.4)})


ACTS: Final[tuple[Callable[[Expression, np.random.Generator], None], ...]] = (
    _smile,
    _open_wide,
    _pucker,
    _bare_teeth,
    _press_lips,
    _smile_more,
)


def _novel_views(
    rows: Sequence[int], moments: _Moments, shapes: Sequence[str], names: Sequence[str]
) -> list[FramePlan]:
    """Ten far-apart moments, a smile and bared teeth, each from five cameras."""
    faces = [Expression(names, dict(zip(shapes, moments.weights[row], strict=True))) for row in rows]
    smile, teeth = Expression(names), Expression(names)
    smile.set(mouthSmile=0.7, cheekSquint=0.4)
    teeth.set(mouthSmile=0.45, mouthUpperUp=0.25, mouthLowerDown=0.3, jawOpen=0.15)
    frames = []
    for number, (face, angles) in enumerate(zip([*faces, smile, teeth], NOVEL_POSES_DEG, strict=True)):
        pose = Pose(*angles)
        gaze = pose.countered_gaze()
        face.look(*gaze)
        for view, yaw in enumerate(NOVEL_YAWS_DEG):
            index = number * len(NOVEL_YAWS_DEG) + view
            frames.append(_frame(NOVEL, index, face, pose, gaze, {"expression": number}, float(yaw)))
    return frames


def _frame(
    split: str,
    index: int,
    face: Expression,
    pose: Pose,
    gaze: tuple[float, float],
    notes: Notes,
    cam_yaw_deg: float = 0.0,
) -> FramePlan:
    return FramePlan(
        split=split,
        index=index,
        coefficients=face.rounded(),
        head_rotvec=pose.rotvec(),
        gaze=(round(float(gaze[0]), 4), round(float(gaze[1]), 4)),
        cam_yaw_deg=cam_yaw_deg,
        notes=notes,
    )
