"""What one session remembers between hops, owned and passed in by the session; nothing is kept on the models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.motion.idle import IdleMotion
from model.speech_to_motion import DriveState


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What may be asked of an avatar while it speaks. Angles in degrees turn the head, not the camera."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    idle: bool = True  # sway and gaze shifts; blinks always happen


@dataclass
class StreamState:
    """A session's place in the stream and the memories of each stage."""

    seed: int
    drive: DriveState
    idle: IdleMotion
    next_frame: int = 0  # absolute index of the hop's first frame; negative until the look-ahead is filled


@dataclass(frozen=True)
class HopOutput:
    """Frames of one hop of one session."""

    first_frame: int
    frames: NDArray[np.uint8]  # (n, size * 3 // 2, size) I420
    motion: NDArray[np.float32]  # (n, 32)
    stage_ms: dict[str, float]
    """mel (with voice activity), encoder, sampler, decode, render, color; shared work divided by the batch."""
