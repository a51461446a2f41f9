"""Which frames a capture holds: expression, head pose, gaze and camera of each. Pure functions of motion and a seed.

Four parts: `train` (stills of turned heads), `sequence` (consecutive speech), `novel` (a still scene from five
cameras), `orbit` (stills seen by a moving camera). Values are rounded to what the labels store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from scripts.capture.person import BASE
from scripts.capture.shapes import smoothstep

TRAIN, SEQUENCE, NOVEL, ORBIT = "train", "sequence", "novel", "orbit"
SPLITS: Final = (TRAIN, SEQUENCE, NOVEL, ORBIT)
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "stills": (TRAIN,),
    "orbit": (ORBIT,),
    "sequence": (SEQUENCE,),
    "novel": (NOVEL,),
    "all": SPLITS,
}
CLIP_FRAMES: Final = 75
FPS: Final = 25
HELD_OUT: Final = 60  # the last stills, which training keeps aside
ORBIT_FRAMES: Final = 240
ORBIT_YAW_DEG, ORBIT_PITCH_DEG = 25.0, 10.0
ORBIT_SEED: Final = 17
LID_FULL_YAW_DEG, LID_FULL_PITCH_DEG = 35.0, 25.0  # gaze at which the lids' coefficients reach 1
NOTES: Final = ("clip", "t", "kind", "clip_frame", "expression", "yaw_pitch_roll_deg", "still")
Angles = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlan:
    """One frame. `notes` are the labels that only say where it came from."""

    split: str
    index: int
    coefficients: tuple[float, ...]  # 0..1, in the plan's order
    head_rotvec: tuple[float, float, float]  # rad
    gaze: Angles  # yaw, pitch in head space, rad; yaw > 0 to the subject's left, pitch > 0 up
    cam_yaw_deg: float = 0.0
    cam_pitch_deg: float = 0.0
    notes: Mapping[str, str | int | float | tuple[float, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Split and number, as in the file names: `train/0007`."""
        return f"{self.split}/{self.index:04d}"


@dataclass(frozen=True)
class ClipSound:
    """Sound (int16, 16 kHz mono, 3 s) and aligned words of a sequence: (word, start s, end s)."""

    audio: np.ndarray[tuple[int], np.dtype[np.int16]]
    words: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Plan:
    """All frames but `orbit`, in the labels' order, and the sound of the sequences by clip name."""

    coefficient_names: tuple[str, ...]
    frames: tuple[FramePlan, ...]
    sounds: Mapping[str, ClipSound]

    def of_splits(self, splits: Sequence[str]) -> tuple[FramePlan, ...]:
        """Frames of these splits; `orbit` is made from the stills."""
        chosen = [f for f in self.frames if f.split in splits]
        if ORBIT in splits:
            chosen += orbit_plan([f for f in self.frames if f.split == TRAIN])
        return tuple(chosen)


def select_frames(plan: Plan, part: str, limit: int | None = None) -> tuple[FramePlan, ...]:
    """The frames of a part (`PARTS`), at most `limit` of each split.

    Raises:
        KeyError: There is no such part.
    """
    found: list[FramePlan] = []
    for split in PARTS[part]:
        found += plan.of_splits((split,))[:limit]
    return tuple(found)


def orbit_plan(stills: Sequence[FramePlan], count: int = ORBIT_FRAMES, seed: int = ORBIT_SEED) -> list[FramePlan]:
    """Expressions of the stills that training sees, with the head at rest, from cameras drawn over the orbit.

    A shorter list of stills gives at most as many frames.
    """
    used = stills[:-HELD_OUT] if len(stills) > 2 * HELD_OUT else stills
    rng = np.random.default_rng(seed)
    rows = np.linspace(0, len(used) - 1, min(count, len(used))).astype(int)
    frames = []
    for index, row in enumerate(rows):
        yaw = rng.uniform(-ORBIT_YAW_DEG, ORBIT_YAW_DEG)
        pitch = rng.uniform(-ORBIT_PITCH_DEG, ORBIT_PITCH_DEG)
        still = used[row]
        frames.append(
            FramePlan(
                split=ORBIT,
                index=index,
                coefficients=still.coefficients,
                head_rotvec=(0.0, 0.0, 0.0),
                gaze=still.gaze,
                cam_yaw_deg=round(float(yaw), 2),
                cam_pitch_deg=round(float(pitch), 2),
                notes={"still": still.index},
            )
        )
    return frames


class Expression:
    """A coefficient vector under construction; starts from the relaxed face."""

    def __init__(self, names: Sequence[str], shapes: Mapping[str, float] | None = None) -> None:
        self._names = {name: i for i, name in enumerate(names)}
        self.values = np.zeros(len(names))
        for name, value in (*BASE.items(), *(shapes or {}).items()):
            self.values[self._names[name]] += value

    def set(self, **shapes: float) -> None:
        """Set shapes; a name without its side sets both."""
        for column, value in self._columns(shapes):
            self.values[column] = value

    def add(self, **shapes: float) -> None:
        """Add to shapes; a name without its side adds to both."""
        for column, value in self._columns(shapes):
            self.values[column] += value

    def close_eyes(self, amount: float) -> None:
        """Close what is still open of both eyes by a share."""
        for name in ("eyeBlink_L", "eyeBlink_R"):
            now = self.values[self._names[name]]
            self.values[self._names[name]] = min(1, now + amount * (1 - now))

    def look(self, yaw_rad: float, pitch_rad: float) -> None:
        """Let the lids follow the gaze."""
        sideways = min(abs(yaw_rad) / np.radians(LID_FULL_YAW_DEG), 1)
        upright = min(abs(pitch_rad) / np.radians(LID_FULL_PITCH_DEG), 1)
        self.set(eyeLookIn=0, eyeLookOut=0, eyeLookUp=0, eyeLookDown=0)
        left = yaw_rad > 0
        self.set(**{"eyeLookOut_L" if left else "eyeLookIn_L": sideways})
        self.set(**{"eyeLookIn_R" if left else "eyeLookOut_R": sideways})
        self.set(**{"eyeLookUp" if pitch_rad > 0 else "eyeLookDown": upright})

    def rounded(self) -> tuple[float, ...]:
        """The vector within 0..1, as the labels store it."""
        return tuple(float(v) for v in np.clip(self.values, 0, 1).round(4))

    def _columns(self, shapes: Mapping[str, float]) -> Iterator[tuple[int, float]]:
        for name, value in shapes.items():
            sides = (name,) if name in self._names else (f"{name}_L", f"{name}_R")
            for side in sides:
                yield self._names[side], value


def sharpened_blink(amount: float) -> float:
    """A reading speaker's half-closed lids are shown open, a blink stays one."""
    return float(smoothstep(amount, 0.40, 0.88))
