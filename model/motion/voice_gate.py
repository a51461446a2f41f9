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
    """When the gate opens and closes.

    start, full: Speech probability that starts and fully opens it.
    faint_log10, audible_log10: Peak band power below which nothing counts as speech, and above which everything may
        (white noise at -40 dBFS peaks at -2.5, quiet speech above -1).
    hold_frames, close_frames: Frames it stays open after speech, and takes to close.
    """

    start: float = 0.08
    full: float = 0.25
    faint_log10: float = -2.4
    audible_log10: float = -2.0
    hold_frames: int = 10
    close_frames: int = 10


@dataclass
class GateState:
    """A session's gate: its value and the frames since speech was last heard."""

    value: float = 0.0
    quiet_frames: int = 10_000


def open_gate(
    features: NDArray[np.float32],  # (hop + lookahead, 256)
    peak_log10: NDArray[np.float32],  # (hop + lookahead,): the frames' loudest band, log10 power
    state: GateState,
    hop_frames: int,
    config: GateConfig,
) -> NDArray[np.float32]:
    """(hop_frames,) gate values 0..1 of the hop's frames; changes `state`."""
    audible = (peak_log10 - config.faint_log10) / (config.audible_log10 - config.faint_log10)
    speech = (1.0 - features[:, SILENCE_INDEX]) * np.clip(audible, 0.0, 1.0)
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
