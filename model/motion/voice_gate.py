"""Blends the mouth to rest while nobody speaks: a gate from the encoder's own posterior of silence.

It opens at once (the look-ahead frames are asked too) and closes slowly, so that closures inside words stay the
diffusion's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.speech.phonemes import SILENCE_INDEX


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """Speech probability that starts and fully opens the gate; frames it stays open; frames it takes to close."""

    start: float = 0.25
    full: float = 0.6
    hold_frames: int = 5
    close_frames: int = 6


@dataclass
class GateState:
    """A session's gate: its value and the frames since speech was last heard."""

    value: float = 0.0
    quiet_frames: int = 10_000


def open_gate(
    features: NDArray[np.float32], state: GateState, hop_frames: int, config: GateConfig
) -> NDArray[np.float32]:
    """(hop_frames,) gate values 0..1 of the hop's frames; features (hop + lookahead, 256); changes `state`."""
    speech = 1.0 - features[:, SILENCE_INDEX]
    out = np.zeros(hop_frames, np.float32)
    for i in range(hop_frames):
        heard = float(speech[i : i + 3].max())
        wanted = min(1.0, max(0.0, (heard - config.start) / (config.full - config.start)))
        if wanted >= state.value:
            state.value = min(wanted, state.value + 0.5)
            state.quiet_frames = 0
        elif wanted > 0.5:
            state.quiet_frames = 0
        else:
            state.quiet_frames += 1
            if state.quiet_frames > config.hold_frames:
                state.value = max(wanted, state.value - 1.0 / config.close_frames)
        out[i] = state.value
    return out
