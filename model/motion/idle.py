"""What a face does besides speaking: blinks at human rates, small gaze shifts, a slow sway of the head.

An avatar made from video brings its person's own (`model.motion.own_idle`): rate and curve of blinks, gaze, sway.
Everything is a function of (seed, absolute frame), so that hop size, batch and pauses change nothing.
Blink rate and shape: Stern, Walrath & Goldstein 1984 (about 15-20 a minute, closing faster than opening).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.motion.own_idle import OwnIdle
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

    def __init__(self, seed: int, config: IdleConfig | None = None, own: OwnIdle | None = None) -> None:
        self.config = config or IdleConfig()
        self.own = own
        if own is not None:
            self.config = _with_rates(self.config, own)
            sines = (3, len(own.sway_hz))
            self._own_phases = np.random.default_rng((seed & (2**63 - 1), 8)).uniform(0, 2 * np.pi, sines)
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
            if start is None or frame < start:
                continue
            shape = self._blink_shape(candidate)
            if frame - start < len(shape):
                return shape[frame - start]
        return 0.0

    def head_deg(self, frame: int) -> NDArray[np.float32]:
        """Yaw, pitch, roll of the sway, degrees, (3,)."""
        seconds = frame / 25.0
        if self.own is not None and len(self.own.sway_hz):
            angles = 2 * np.pi * self.own.sway_hz * seconds + self._own_phases
            return np.asarray((self.own.sway_deg * np.sin(angles)).sum(1), np.float32)
        rates = np.array([[0.11, 0.23, 0.41], [0.13, 0.29, 0.47], [0.09, 0.19, 0.37]])
        weights = np.array([0.55, 0.3, 0.15])
        waves = np.sin(2 * np.pi * rates * seconds + self._phases) @ weights
        return np.asarray(waves * self.config.sway_deg * np.array([1.0, 0.6, 0.4]), np.float32)

    def _blink_shape(self, slot: int) -> Sequence[float]:
        if self.own is None or not len(self.own.blink_curves):
            return BLINK_SHAPE
        curves = self.own.blink_curves
        chosen: list[float] = curves[int(self._rng(slot, 3).integers(len(curves)))].tolist()
        return chosen

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
        if self.own is not None and len(self.own.gaze_rad):
            target = self.own.gaze_rad[int(self._rng(slot, 2).integers(len(self.own.gaze_rad)))]
            return np.asarray(target, np.float64)
        return np.clip(self._rng(slot, 2).normal(0.0, 1.0, 2), -2, 2) * (c.gaze_yaw_rad, c.gaze_pitch_rad)

    def _rng(self, slot: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed & (2**63 - 1), purpose, slot & (2**63 - 1)))


def _with_rates(config: IdleConfig, own: OwnIdle) -> IdleConfig:
    """Slots as long as the person's own rates ask for."""
    slot = round(60 * 25 * config.blink_chance / own.config.blinks_per_minute)
    return replace(config, blink_slot_frames=slot, gaze_slot_frames=own.config.gaze_frames)
