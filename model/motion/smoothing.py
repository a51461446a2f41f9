"""Smooths motion by its speed, and never where lips close: what trembles is calmed, what speaks passes unchanged.

A first-order filter whose cutoff rises with speed (the one-euro filter: Casiez, Roussel and Vogel 2012), one for all
numbers of a frame, so that a mouth shape stays a blend of two shapes that were made. The first frame of a hop, which
was sampled apart from the one before it, keeps some more of the past: that spreads the step between hops. Where lips
fall shut or are shut nothing is filtered, so a closure of one frame keeps its depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError
from model.motion.space import MOTION_SIZE, MOUTH_CODES, Motion, MotionSpace, check_motion

FPS = 25
SPEED_SHARE = 0.5
"""Share of the newest frame in the running speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothingConfig:
    """How much of the frame before is kept.

    strength: Scales everything; 0 is off, 1 what was measured for samples at temperature 1.
    cutoff_hz, cutoff_per_speed: Cutoff of a still mouth, and its rise with speed (Hz for each standard deviation a
        second, root mean square over the mouth codes).
    hop_share: Share of the past that a hop's first frame keeps in addition.
    shut_opening, falling_opening: Lip opening (inter-ocular units) at or below which lips count as shut, and its fall
        within a frame that counts as closing; up to twice as much the filter fades in or out.
    """

    strength: float = 1.0
    cutoff_hz: float = 4.0
    cutoff_per_speed: float = 6.0
    hop_share: float = 0.11
    shut_opening: float = 0.02
    falling_opening: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ConfigError(f"smoothing must be 0..1, got {self.strength}")
        if min(self.cutoff_hz, self.shut_opening, self.falling_opening) <= 0.0 or self.cutoff_per_speed < 0.0:
            raise ConfigError(f"cutoff and openings must be positive, got {self}")
        if not 0.0 <= self.hop_share <= 0.5:
            raise ConfigError(f"hop_share must be 0..0.5, got {self.hop_share}")


@dataclass
class SmoothingState:
    """A session's last frame, as made and as shown, and its running speed."""

    made: Motion = field(default_factory=lambda: np.zeros(MOTION_SIZE, np.float32))
    shown: Motion = field(default_factory=lambda: np.zeros(MOTION_SIZE, np.float32))
    speed: float = 0.0  # standard deviations a second
    opening: float = 0.0

    @classmethod
    def start(cls, rest: Motion, space: MotionSpace) -> SmoothingState:
        """A face at rest (32,)."""
        return cls(rest.copy(), rest.copy(), 0.0, float(space.lip_opening(rest)))


class Smoother:
    """The filter. Options only; sessions own their states."""

    def __init__(self, space: MotionSpace, config: SmoothingConfig | None = None) -> None:
        self.space = space
        self.config = config or SmoothingConfig()

    def __call__(self, motion: Motion, state: SmoothingState) -> Motion:
        """Smoothed motion (n, 32) of one hop (n, 32); changes the state. Strength 0 returns the hop as it is."""
        check_motion(motion)
        if self.config.strength == 0.0:
            return motion
        openings: NDArray[np.float32] = self.space.lip_opening(motion)
        out = np.empty_like(motion)
        for i, frame in enumerate(motion):
            kept = self._kept(frame, state) + (self.config.hop_share if i == 0 else 0.0)
            kept *= self.config.strength * (1.0 - self._closing(float(openings[i]), state))
            out[i] = frame + np.float32(kept) * (state.shown - frame)
            state.made, state.shown, state.opening = frame.copy(), out[i].copy(), float(openings[i])
        return out

    def _kept(self, frame: Motion, state: SmoothingState) -> float:
        """Share of the past by speed; the present counts at once, calm only after some frames."""
        step = frame[MOUTH_CODES] - state.made[MOUTH_CODES]
        speed = FPS * math.sqrt(float(step @ step) / len(step))
        state.speed += SPEED_SHARE * (speed - state.speed)
        cutoff_hz = self.config.cutoff_hz + self.config.cutoff_per_speed * max(speed, state.speed)
        return 1.0 / (1.0 + 2.0 * math.pi * cutoff_hz / FPS)

    def _closing(self, opening: float, state: SmoothingState) -> float:
        """0 open and not closing .. 1 shut or falling shut."""
        shut = 2.0 - opening / self.config.shut_opening
        falling = (state.opening - opening) / self.config.falling_opening - 1.0
        return min(1.0, max(0.0, shut, falling))
