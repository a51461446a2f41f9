"""What a face does besides speaking: blinks at human rates, small gaze shifts, a slow sway of the head.

Everything is a function of (seed, absolute frame), so that hop size, batch and pauses change nothing.
Blink rate and shape: Stern, Walrath & Goldstein 1984 (about 15-20 a minute, closing faster than opening).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.motion.space import GAZE_CODES, LID_CODES, MOTION_SIZE

BLINK_SHAPE = (0.55, 1.0, 0.9, 0.55, 0.25, 0.08)
"""Lid closure from the blink's first frame on: two frames to close, four to open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleConfig:
    """Rates and sizes."""

    blink_slot_frames: int = 90
    blink_chance: float = 0.92
    gaze_slot_frames: int = 45
    gaze_yaw_rad: float = 0.06
    gaze_pitch_rad: float = 0.03
    sway_deg: float = 1.6


class IdleMotion:
    """Lids, gaze and head sway of one session."""

    def __init__(self, seed: int, config: IdleConfig | None = None) -> None:
        self.config = config or IdleConfig()
        self.seed = seed
        phases = np.random.default_rng((seed & (2**63 - 1), 7)).uniform(0, 2 * np.pi, (3, 3))
        self._phases = phases

    def motion(self, frame: int) -> NDArray[np.float32]:
        """(32,): lids and gaze set, the rest 0."""
        out = np.zeros(MOTION_SIZE, np.float32)
        out[LID_CODES] = self.lid_closure(frame)
        out[GAZE_CODES] = self._gaze(frame)
        return out

    def lid_closure(self, frame: int) -> float:
        """0 open .. 1 closed."""
        slot = frame // self.config.blink_slot_frames
        for candidate in (slot - 1, slot):
            start = self._blink_start(candidate)
            if start is not None and 0 <= frame - start < len(BLINK_SHAPE):
                return BLINK_SHAPE[frame - start]
        return 0.0

    def head_deg(self, frame: int) -> NDArray[np.float32]:
        """Yaw, pitch, roll of the sway, degrees, (3,)."""
        seconds = frame / 25.0
        rates = np.array([[0.11, 0.23, 0.41], [0.13, 0.29, 0.47], [0.09, 0.19, 0.37]])
        weights = np.array([0.55, 0.3, 0.15])
        waves = np.sin(2 * np.pi * rates * seconds + self._phases) @ weights
        return np.asarray(waves * self.config.sway_deg * np.array([1.0, 0.6, 0.4]), np.float32)

    def _blink_start(self, slot: int) -> int | None:
        if slot < 0:
            return None
        rng = self._rng(slot, 1)
        if rng.random() > self.config.blink_chance:
            return None
        return slot * self.config.blink_slot_frames + int(rng.integers(15, self.config.blink_slot_frames - 10))

    def _gaze(self, frame: int) -> NDArray[np.float32]:
        slot, inside = divmod(frame, self.config.gaze_slot_frames)
        here, before = self._gaze_target(slot), self._gaze_target(slot - 1)
        share = min(1.0, (inside + 1) / 3.0)  # a saccade takes about three frames
        return (before + (here - before) * share).astype(np.float32)

    def _gaze_target(self, slot: int) -> NDArray[np.float64]:
        c = self.config
        return np.clip(self._rng(slot, 2).normal(0.0, 1.0, 2), -2, 2) * (c.gaze_yaw_rad, c.gaze_pitch_rad)

    def _rng(self, slot: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed & (2**63 - 1), purpose, slot & (2**63 - 1)))
