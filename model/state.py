"""What one session remembers between hops, owned and passed in by the session; nothing is kept on the models."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.motion.head_motion import HeadMotionState
from model.motion.idle import IdleMotion
from model.motion.mood import NEUTRAL, MoodState, check_mood
from model.speech_to_motion import DriveState


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What may be asked of an avatar while it speaks. Angles in degrees turn the head, not the camera.

    Raises:
        InputError: There is no such mood, or a strength is not 0..1.
    """

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    idle: bool = True  # sway and gaze shifts; blinks always happen
    mood: str = NEUTRAL  # one of `model.motion.mood.MOODS`
    mood_strength: float = 1.0  # 0..1
    head_motion: float = 0.5  # 0..1: how much the head nods and tilts to speech

    def __post_init__(self) -> None:
        check_mood(self.mood)
        for name, value in (("mood_strength", self.mood_strength), ("head_motion", self.head_motion)):
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} must be 0..1, got {value}")


@dataclass
class StreamState:
    """A session's place in the stream and the memories of each stage."""

    seed: int
    drive: DriveState
    idle: IdleMotion
    head: HeadMotionState
    mood: MoodState = field(default_factory=MoodState)
    next_frame: int = 0  # absolute index of the hop's first frame; negative until the look-ahead is filled


@dataclass(frozen=True)
class HopOutput:
    """Frames of one hop of one session."""

    first_frame: int
    frames: NDArray[np.uint8]  # (n, size * 3 // 2, size) I420
    motion: NDArray[np.float32]  # (n, 32)
    stage_ms: dict[str, float]
    """mel (with voice activity), encoder, sampler (with the latents' decoder), decode (what finishes motion), render,
    color; shared work divided by the batch."""
