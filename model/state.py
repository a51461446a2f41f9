"""What one session remembers between hops, owned and passed in by the session; nothing is kept on the models."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.motion.head_motion import HeadMotionState
from model.motion.idle import IdleMotion
from model.motion.mood import NEUTRAL, MoodState, check_mood
from model.motion.own_idle import OwnIdle
from model.motion.retarget import Retarget
from model.motion.space import Motion
from model.motion.voice_gate import GateConfig
from model.radiance.compositor import Backdrop, Transparent
from model.radiance.serving import AvatarRenderer
from model.speech_to_motion import DriveState

LARGEST_TURN_DEG = 90.0
LARGEST_GAZE_RAD = 0.6


@dataclass(frozen=True, eq=False)
class ShownAvatar:
    """A loaded avatar: its renderer, how the speaker's motion becomes its own, mouth at rest (32,) and idle motion."""

    renderer: AvatarRenderer
    retarget: Retarget
    rest_motion: Motion
    own_idle: OwnIdle | None = None  # of avatars made from video

    @property
    def name(self) -> str:
        """As avatar.json names it."""
        return self.renderer.avatar.config.name

    @property
    def size_bytes(self) -> int:
        """Memory it takes, about: its arrays, and as much again for the kernel's copies and the backgrounds."""
        return 2 * sum(array.nbytes for array in self.renderer.avatar.arrays.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What may be asked of an avatar while it speaks. Angles in degrees turn the head, not the camera.

    Raises:
        InputError: There is no such mood, a strength is not 0..1, or an angle is too large or not a number.
    """

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    idle: bool = True  # sway and gaze shifts; blinks always happen
    mood: str = NEUTRAL  # one of `model.motion.mood.MOODS`
    mood_strength: float = 1.0  # 0..1
    head_motion: float = 0.5  # 0..1: how much the head nods and tilts to speech
    gaze_rad: tuple[float, float] | None = None  # yaw to the subject's left, pitch up; None: gaze wanders
    background: Backdrop | Transparent | None = None  # None: the avatar's own
    ease_s: float = 0.0  # time constant with which the head follows the angles; 0: at once

    def __post_init__(self) -> None:
        check_mood(self.mood)
        for name, value in (("mood_strength", self.mood_strength), ("head_motion", self.head_motion)):
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} must be 0..1, got {value}")
        for name, angle in (("yaw_deg", self.yaw_deg), ("pitch_deg", self.pitch_deg), ("roll_deg", self.roll_deg)):
            if not abs(angle) <= LARGEST_TURN_DEG:
                raise InputError(f"{name} must be within +-{LARGEST_TURN_DEG:g}, got {angle}")
        for angle in self.gaze_rad or ():
            if not (math.isfinite(angle) and abs(angle) <= LARGEST_GAZE_RAD):
                raise InputError(f"gaze_rad must be within +-{LARGEST_GAZE_RAD}, got {self.gaze_rad}")
        if not 0.0 <= self.ease_s <= 10.0:
            raise InputError(f"ease_s must be 0..10, got {self.ease_s}")


@dataclass
class StreamState:
    """A session's place in the stream and the memories of each stage."""

    seed: int
    drive: DriveState
    idle: IdleMotion
    head: HeadMotionState
    mood: MoodState = field(default_factory=MoodState)
    next_frame: int = 0  # absolute index of the hop's first frame; below `first_frame` until the look-ahead is filled
    first_frame: int = 0
    shown: ShownAvatar | None = None  # None: the pipeline's own
    turned_deg: NDArray[np.float32] | None = None  # (3,): how far the head has followed the controls' angles

    def snapshot(self) -> StreamState:
        """A copy that goes its own way; the avatar is shared."""
        return replace(
            self, drive=copy.deepcopy(self.drive), head=copy.deepcopy(self.head), mood=copy.deepcopy(self.mood)
        )

    def interrupt(self) -> None:
        """What was heard last will not be said: the mouth goes to rest from where it is."""
        self.drive.gate.hush(GateConfig())

    def turn(self, control: Controls, fps: int) -> NDArray[np.float32]:
        """One frame nearer to the controls' yaw, pitch and roll (3,), degrees."""
        self.turned_deg = turned(self.turned_deg, control, fps)
        return self.turned_deg


def turned(held: NDArray[np.float32] | None, control: Controls, fps: int) -> NDArray[np.float32]:
    """Yaw, pitch and roll (3,), degrees, one frame after `held`; None: before the first one."""
    wanted = np.array([control.yaw_deg, control.pitch_deg, control.roll_deg], np.float32)
    share = 1.0 if control.ease_s == 0 else -math.expm1(-1.0 / (fps * control.ease_s))
    held = wanted if held is None else held
    return np.asarray(held + np.float32(share) * (wanted - held), np.float32)


@dataclass(frozen=True)
class HopOutput:
    """Frames of one hop of one session."""

    first_frame: int
    frames: NDArray[np.uint8]  # (n, size * 3 // 2, size) I420
    motion: NDArray[np.float32]  # (n, 32)
    stage_ms: dict[str, float]
    """mel (with voice activity), encoder, sampler (with the latents' decoder), decode (what finishes motion), render,
    color; shared work divided by the batch."""
    head_deg: NDArray[np.float32] | None = None  # (n, 3): yaw, pitch, roll as shown
    alpha: NDArray[np.uint8] | None = None
    """(n, size, size) where the background is transparent; the frames' color is then straight."""
