"""Head motion from speech: nods on what is stressed, and a slow turn and tilt from phrase to phrase.

Speakers nod with the pitch accents and loud syllables of what they say, and turn and tilt more slowly (Graf, Cosatto,
Strom and Huang 2002, "Visual prosody"; Munhall et al. 2004). A stressed syllable here is voiced sound that rises above
the running loudness of the same voice. Each one asks for a nod; critically damped springs follow, so that nothing
jumps or overshoots. Sizes are random, but of (seed, absolute frame) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError

FPS: Final = 25
ENERGY, VOICING = 0, 2
"""Columns of the features' prosody: mean log-mel of a frame (about -1..0.2), and voicing 0..1."""
Angles = NDArray[np.float64]  # (3,) yaw, pitch, roll, degrees


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadMotionConfig:
    """Sizes and rates.

    nod_deg, turn_deg, tilt_deg: Largest pitch (down), yaw and roll that are asked for.
    full_rise: Energy above the running loudness at which a syllable counts as fully stressed.
    stress: Share of it from which a nod starts.
    loudness_s, nod_decay_s, rest_s: Time constants of the loudness, of a nod's wish, and least time between nods.
    nod_hz, turn_hz: Natural frequencies of the springs.
    """

    nod_deg: float = 3.2
    turn_deg: float = 2.4
    tilt_deg: float = 1.6
    full_rise: float = 0.25
    stress: float = 0.4
    loudness_s: float = 1.2
    nod_decay_s: float = 0.3
    rest_s: float = 0.48
    nod_hz: float = 1.8
    turn_hz: float = 0.6

    def __post_init__(self) -> None:
        if not 0.0 <= max(self.nod_deg, self.turn_deg, self.tilt_deg) <= 4.0:
            raise ConfigError(f"head motion must stay within 4 degrees, got {self}")
        if min(self.full_rise, self.loudness_s, self.nod_decay_s, self.nod_hz, self.turn_hz) <= 0.0:
            raise ConfigError(f"rates of head motion must be positive, got {self}")


@dataclass
class HeadMotionState:
    """A session's head: where it is, how fast it turns, and what it is asked for."""

    seed: int
    angles: Angles = field(default_factory=lambda: np.zeros(3))
    velocity: Angles = field(default_factory=lambda: np.zeros(3))  # degrees a second
    wanted: Angles = field(default_factory=lambda: np.zeros(3))
    loudness: float | None = None
    frames_since_nod: int = 10_000


class HeadMotion:
    """The rule. Options only; sessions own their states."""

    def __init__(self, config: HeadMotionConfig | None = None) -> None:
        self.config = config or HeadMotionConfig()
        c = self.config
        self.omega = 2.0 * math.pi * np.array([c.turn_hz, c.nod_hz, c.turn_hz])

    def __call__(
        self, prosody: NDArray[np.float32], speaking: float, first_frame: int, state: HeadMotionState
    ) -> NDArray[np.float32]:
        """Yaw, pitch, roll (n, 3) of a hop in degrees, to be added to the head's pose; changes the state.

        Args:
            prosody: (n, 4), the features' prosody of the frames.
            speaking: The voice gate, 0..1: what is no speech moves no head.
            first_frame: Absolute index of the hop's first frame.
        """
        out = np.empty((len(prosody), 3), np.float32)
        for i, heard in enumerate(prosody):
            stress = self._stress(float(heard[ENERGY]), float(heard[VOICING]), speaking, state)
            self._ask(stress, speaking, first_frame + i, state)
            out[i] = self._follow(state)
        return out

    def nod(self, seed: int, frame: int) -> Angles:
        """Yaw, pitch and roll (3,) that a fully stressed syllable at an absolute frame asks for, degrees."""
        rng = np.random.default_rng((seed & (2**63 - 1), 11, frame & (2**63 - 1)))
        nod, turn, tilt = rng.uniform((0.5, -1.0, -1.0), 1.0)
        return np.array([self.config.turn_deg * turn, self.config.nod_deg * nod, self.config.tilt_deg * tilt])

    def _stress(self, energy: float, voicing: float, speaking: float, state: HeadMotionState) -> float:
        """0..1: how far a voiced sound is above the voice's running loudness."""
        if state.loudness is None:
            state.loudness = energy
        rise = (energy - state.loudness) / self.config.full_rise
        state.loudness += speaking * (energy - state.loudness) / (self.config.loudness_s * FPS)
        return min(1.0, max(0.0, rise)) * voicing * speaking

    def _ask(self, stress: float, speaking: float, frame: int, state: HeadMotionState) -> None:
        c = self.config
        state.wanted[1] *= math.exp(-1.0 / (c.nod_decay_s * FPS))
        state.wanted[[0, 2]] *= 1.0 - 0.1 * (1.0 - speaking)  # back to the front when silent
        state.frames_since_nod += 1
        if stress < c.stress or state.frames_since_nod < c.rest_s * FPS:
            return
        state.frames_since_nod = 0
        state.wanted[:] = stress * self.nod(state.seed, frame)

    def _follow(self, state: HeadMotionState) -> Angles:
        """One frame of critically damped springs, exact for a target that stands still."""
        offset = state.angles - state.wanted
        drive = state.velocity + self.omega * offset
        decay = np.exp(-self.omega / FPS)
        state.angles = state.wanted + (offset + drive / FPS) * decay
        state.velocity = (state.velocity - self.omega * drive / FPS) * decay
        return state.angles
