"""Moods: an expression over what the face says, that leaves the gap between the lips to speech.

A mood is a fixed offset in the motion space, eased in and out. Where it would part or press the lips it is projected
out, so that it never adds to a closure; while lips close in speech most of its mouth part gives way as well. Brows and
lids always show.

The offsets are expressions of ICT-FaceKit (MIT) on its mean face, in the motion space; `RECIPES` says of which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.motion.face_points import MOUTH
from model.motion.space import BROW_CODES, LID_CODES, MOTION_SIZE, MOUTH_CODES, Motion, MotionSpace

NEUTRAL: Final = "neutral"
RECIPES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "smile": {"mouthSmile": 0.4, "mouthDimple": 0.1, "cheekSquint": 0.15, "eyeSquint": 0.25, "browOuterUp": 0.1},
        "sad": {"mouthFrown": 0.4, "mouthShrugLower": 0.1, "browInnerUp": 0.6, "eyeBlink": 0.1},
        "surprised": {"browInnerUp": 0.6, "browOuterUp": 0.6, "eyeWide": 0.8, "mouthFunnel": 0.12},
        "angry": {"browDown": 1.2, "noseSneer": 0.15, "mouthPress": 0.3, "mouthFrown": 0.25, "eyeSquint": 0.5},
    }
)
"""Weights of ICT-FaceKit's shapes at strength 1, both sides alike."""
MOODS: Final = (NEUTRAL, *RECIPES)

# fmt: off
_CODES: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "smile": (
            0.56, 3.91, -1.13, 1.12, -0.98, -0.41, -1.16, -2.79, 0.23, 0.74, -2.99, 0.93, -0.44, 0.48, -0.06, 2.33,
            0.05, 0.07, 0.05, 0.07, 0.11, 0.11,
        ),
        "sad": (
            0.07, -0.42, 0.26, -0.24, -1.69, 0.91, -1.20, 2.03, -0.95, -1.17, -0.60, 0.84, 0.35, -0.10, 0.24, 1.40,
            0.51, 0.11, 0.50, 0.11, 0.08, 0.09,
        ),
        "surprised": (
            -0.09, -0.08, 0.50, -0.08, 1.35, -0.31, -0.27, -0.33, 0.02, 0.16, -0.42, 0.01, 0.15, -0.18, -0.20, 0.56,
            0.95, 0.68, 0.91, 0.70, -0.25, -0.26,
        ),
        "angry": (
            0.25, 0.48, 0.47, -0.24, 0.09, -0.34, 0.16, 0.14, 0.20, -0.07, -0.47, 0.16, -0.07, -0.68, 0.33, 3.63,
            -0.65, -0.23, -0.62, -0.26, 0.15, 0.15,
        ),
    }
)
# fmt: on
"""The recipes in the motion space: 16 mouth codes, brows (inner and outer left, inner and outer right), two lids."""

SEAM: Final = ((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))
"""Pairs of upper and lower inner-lip landmarks, right to left: where lips touch."""
EASE_FRAMES: Final = 10  # 0.4 s
CLOSURE_SHARE: Final = 0.4
"""What is left of a mood's mouth part while lips are closed in speech."""
CLOSED_OPENING, FREE_OPENING = 0.02, 0.06
"""Lip openings (inter-ocular units) at which lips count as closed, and as free."""
RECOVERY_FRAMES: Final = 5


@dataclass
class MoodState:
    """A session's offset as shown, where it came from and where it goes, and how closed its lips lately were."""

    start: Motion = field(default_factory=lambda: np.zeros(MOTION_SIZE, np.float32))
    target: Motion = field(default_factory=lambda: np.zeros(MOTION_SIZE, np.float32))
    shown: Motion = field(default_factory=lambda: np.zeros(MOTION_SIZE, np.float32))
    eased_frames: int = EASE_FRAMES
    closed: float = 0.0


class Moods:
    """Offsets of all moods in one motion space. Immutable; sessions own their states."""

    def __init__(self, space: MotionSpace) -> None:
        self.space = space
        self._offsets = {name: _offset(name, space) for name in RECIPES} | {NEUTRAL: np.zeros(MOTION_SIZE, np.float32)}

    def offset(self, mood: str) -> Motion:
        """A mood's offset (32,) at strength 1, its effect on the gap between the lips removed."""
        check_mood(mood)
        return self._offsets[mood].copy()

    def ease(self, mood: str, strength: float, state: MoodState) -> Motion:
        """The offset (32,) of the next frame, on its way to a mood at a strength 0..1; changes the state."""
        return _eased(np.float32(strength) * self._offsets[mood], state)

    def add(self, motion: Motion, mood: str, strength: float, state: MoodState, *, speaking: float) -> None:
        """Lay a mood over one frame's motion (32,) in place; changes the state.

        Args:
            strength: 0..1.
            speaking: 0 (silence) .. 1; only in speech do closed lips hold the mood's mouth back.
        """
        shown = self.ease(mood, strength, state)
        if not shown.any():
            return
        opening = float(self.space.lip_opening(motion))
        closed = min(1.0, max(0.0, (FREE_OPENING - opening) / (FREE_OPENING - CLOSED_OPENING))) * speaking
        state.closed = max(closed, state.closed - 1.0 / RECOVERY_FRAMES)
        motion[MOUTH_CODES] += np.float32(1.0 - (1.0 - CLOSURE_SHARE) * state.closed) * shown[MOUTH_CODES]
        motion[BROW_CODES] += shown[BROW_CODES]
        motion[LID_CODES] += shown[LID_CODES] * (1.0 - np.clip(motion[LID_CODES], 0.0, 1.0))  # a blink still shuts


def check_mood(mood: str) -> None:
    """Raise InputError unless there is such a mood."""
    if mood not in MOODS:
        raise InputError(f"there is no mood {mood!r}; use one of: {', '.join(MOODS)}")


def lip_gaps(space: MotionSpace) -> NDArray[np.float32]:
    """(5, 16): change of the gap at each pair of `SEAM` for a unit of each mouth code, inter-ocular units."""
    height = space.basis.reshape(len(space.basis), len(MOUTH), 3)[..., 1]
    return np.stack([height[:, MOUTH.index(a)] - height[:, MOUTH.index(b)] for a, b in SEAM])


def _offset(mood: str, space: MotionSpace) -> Motion:
    out = np.zeros(MOTION_SIZE, np.float32)
    out[: LID_CODES.stop] = _CODES[mood]
    gaps = lip_gaps(space)
    out[MOUTH_CODES] -= np.linalg.pinv(gaps) @ (gaps @ out[MOUTH_CODES])
    return out


def _eased(target: Motion, state: MoodState) -> Motion:
    if not np.array_equal(target, state.target):
        state.start, state.target, state.eased_frames = state.shown, target, 0
    state.eased_frames = min(EASE_FRAMES, state.eased_frames + 1)
    share = state.eased_frames / EASE_FRAMES
    share = share * share * (3.0 - 2.0 * share)
    state.shown = state.start + np.float32(share) * (state.target - state.start)
    return state.shown
