"""Blends the mouth to rest while nobody speaks: a gate from the encoder's own posterior of silence.

It opens at once (the look-ahead frames are asked too) and closes slowly, so that closures inside words stay the
diffusion's business. Two kinds of sound never open it, whatever the encoder takes them for: faint ones, and steady
noise. Noise of any colour is told by its statistics: over a second its band powers spread by 0.33 in log10 (the spread
of an averaged exponential variable), where speech spreads by 0.5 and more, and a held vowel or a hum by 0.1.
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
    noise_spread_log10: Spread of band powers over the window that means steady noise: passes below the first and above
        the last of the four, is shut out between the middle two.
    hold_frames, close_frames: Frames it stays open after speech, and takes to close.
    """

    start: float = 0.08
    full: float = 0.25
    faint_log10: float = -2.4
    audible_log10: float = -2.0
    noise_spread_log10: tuple[float, float, float, float] = (0.26, 0.30, 0.38, 0.42)
    hold_frames: int = 10
    close_frames: int = 10


@dataclass
class GateState:
    """A session's gate: its value and the frames since speech was last heard."""

    value: float = 0.0
    quiet_frames: int = 10_000


def audible_share(
    peak_log10: NDArray[np.float32],  # (n,): the frames' loudest band
    spread_log10: float,  # mean over bands of the deviation of log10 power over the window
    config: GateConfig,
) -> NDArray[np.float32]:
    """(n,) 0 for faint sound and steady noise, 1 for what may be speech."""
    loud = np.clip((peak_log10 - config.faint_log10) / (config.audible_log10 - config.faint_log10), 0.0, 1.0)
    varied = np.interp(spread_log10, config.noise_spread_log10, (1.0, 0.0, 0.0, 1.0))
    return np.asarray(loud * varied, np.float32)


def open_gate(
    features: NDArray[np.float32],  # (hop + lookahead, 256)
    audible: NDArray[np.float32],  # (hop + lookahead,): from `audible_share`
    state: GateState,
    hop_frames: int,
    config: GateConfig,
) -> NDArray[np.float32]:
    """(hop_frames,) gate values 0..1 of the hop's frames; changes `state`."""
    speech = np.clip((1.0 - features[:, SILENCE_INDEX] - config.start) / (config.full - config.start), 0.0, 1.0)
    speech = speech * audible
    out = np.zeros(hop_frames, np.float32)
    for i in range(hop_frames):
        wanted = float(speech[i : i + 3].max())
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
