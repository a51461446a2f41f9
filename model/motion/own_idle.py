"""A person's own idle motion as an avatar folder keeps it: `idle.safetensors`.

Blinks per minute and closing curves, gaze targets and how long each is held, the head's sway as a few sines per axis.
What is made of it (`model.motion.idle`) is drawn anew in every session; nothing of the video's times is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointError, ConfigError

__all__ = ["IDLE_FILE", "OwnIdle", "OwnIdleConfig"]

IDLE_FILE = "idle.safetensors"
KIND = "idle"
BLINK_FRAMES = 12
BLINKS_PER_MINUTE = (8.0, 26.0)
GAZE_FRAMES = (15, 100)
LARGEST_GAZE_RAD = 0.15
LARGEST_SWAY_DEG = 2.5
UNSEEN_SHAPES = {"blink_curves": (0, BLINK_FRAMES), "gaze_rad": (0, 2), "sway_hz": (0,), "sway_deg": (3, 0)}

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnIdleConfig:
    """Rates, and how much video they come from."""

    blinks_per_minute: float
    gaze_frames: int  # that a gaze is held
    seconds: float = 0.0  # of video
    quiet_seconds: float = 0.0  # of it, without speech
    blinks: int = 0  # seen

    def __post_init__(self) -> None:
        low, high = BLINKS_PER_MINUTE
        if not low <= self.blinks_per_minute <= high:
            raise ConfigError(f"blinks_per_minute must be {low:g}..{high:g}, got {self.blinks_per_minute}")
        if not GAZE_FRAMES[0] <= self.gaze_frames <= GAZE_FRAMES[1]:
            raise ConfigError(f"gaze_frames must be {GAZE_FRAMES[0]}..{GAZE_FRAMES[1]}, got {self.gaze_frames}")


@dataclass(frozen=True, eq=False)
class OwnIdle:
    """What a person does when at rest. Arrays may be empty: the general motion then stands in."""

    config: OwnIdleConfig
    blink_curves: Array  # (N, BLINK_FRAMES) lid closure 0..1 from the first frame on, 0 after its end
    gaze_rad: Array  # (M, 2) yaw, pitch around the person's mean
    sway_hz: Array  # (K,)
    sway_deg: Array  # (3, K) amplitudes of yaw, pitch, roll

    def __post_init__(self) -> None:
        shapes = (self.blink_curves.shape[1:], self.gaze_rad.shape[1:], self.sway_deg.shape)
        if shapes != ((BLINK_FRAMES,), (2,), (3, len(self.sway_hz))):
            raise ConfigError(f"idle motion needs curves (N, {BLINK_FRAMES}), gaze (M, 2), sway (3, K), got {shapes}")
        arrays = (self.blink_curves, self.gaze_rad, self.sway_hz, self.sway_deg)
        if not all(np.isfinite(a).all() for a in arrays):
            raise ConfigError("idle motion holds numbers that are not finite")
        if (np.abs(self.gaze_rad) > LARGEST_GAZE_RAD + 1e-6).any():
            raise ConfigError(f"gaze must stay within {LARGEST_GAZE_RAD} rad, got {np.abs(self.gaze_rad).max():.3f}")
        if (self.sway_deg.sum(1) > LARGEST_SWAY_DEG + 1e-3).any():
            raise ConfigError(f"sway must stay within {LARGEST_SWAY_DEG} degrees, got {self.sway_deg.sum(1).max():.2f}")

    def save(self, folder: Path) -> None:
        """Write `idle.safetensors` into an avatar folder."""
        arrays = {"blink_curves": self.blink_curves, "gaze_rad": self.gaze_rad}
        arrays |= {"sway_hz": self.sway_hz, "sway_deg": self.sway_deg}
        kept = {name: a for name, a in arrays.items() if a.size}  # what was not seen is left out
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for name, a in kept.items()}
        save_checkpoint(folder / IDLE_FILE, tensors, kind=KIND, config=self.config)
        (folder / IDLE_FILE).chmod(0o644)

    @classmethod
    def load(cls, folder: Path) -> OwnIdle | None:
        """The avatar's own idle motion; None where it has none.

        Raises:
            CheckpointError: The file is damaged, foreign, or holds impossible motion.
        """
        path = folder / IDLE_FILE
        if not path.is_file():
            return None
        stored = load_checkpoint(path, kind=KIND, config_cls=OwnIdleConfig)
        arrays = [
            stored.tensors[name].numpy() if name in stored.tensors else np.zeros(unseen, np.float32)
            for name, unseen in UNSEEN_SHAPES.items()
        ]
        try:
            return cls(stored.config, *arrays)
        except ConfigError as error:
            raise CheckpointError(path, f"is no idle motion: {error}") from error
