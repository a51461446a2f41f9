"""Blends the mouth to rest while nobody speaks: a gate from the encoder's own phonemes and from voice activity.

The encoder's posterior of silence is exact in time, but it was trained on little real noise; the voice activity
detector knows music, keyboards and breath, but is late, by more at the start of a sentence. So the phonemes are trusted
for some frames, until voice activity has confirmed or not confirmed them; what it does not confirm uses that trust up,
and is shut out until a voice is heard.
The gate opens at once and closes slowly, so that closures inside words stay the diffusion's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.speech.phonemes import SILENCE_INDEX


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """When the gate opens and closes.

    start, full: Speech probability (by the encoder's phonemes) that starts and fully opens it.
    voice_start, voice_full: The same for voice activity.
    hold_frames, close_frames: Frames it stays open after speech, and takes to close.
    certain_start, certain_full: Speech probability that starts and fully opens it without voice activity.
    trust_frames, trusted: Frames for which it may, and how far.
    hush_frames: Frames it takes to close, whatever is heard, once speech was interrupted.
    """

    start: float = 0.08
    full: float = 0.25
    voice_start: float = 0.2
    voice_full: float = 0.5
    hold_frames: int = 10
    close_frames: int = 10
    certain_start: float = 0.3
    certain_full: float = 0.6
    trust_frames: float = 4.0
    trusted: float = 0.6
    hush_frames: int = 4

    def new_state(self) -> GateState:
        """A shut gate that trusts its phonemes."""
        return GateState(trust=self.trust_frames)


ALWAYS_OPEN = GateConfig(start=-2.0, full=-1.0, voice_start=-2.0, voice_full=-1.0)
"""Every probability is above it: the mouth is never blended to rest."""


@dataclass
class GateState:
    """A session's gate: its value, the frames since speech was last heard, and how far its phonemes are trusted."""

    value: float = 0.0
    quiet_frames: int = 10_000
    trust: float = 0.0
    hushed_frames: int = 0

    def hush(self, config: GateConfig) -> None:
        """Speech was interrupted: close within `config.hush_frames`, though the look-ahead has heard more of it."""
        self.hushed_frames = config.hush_frames
        self.quiet_frames = max(self.quiet_frames, config.hold_frames)


def open_gate(
    features: NDArray[np.float32],  # (hop + lookahead, 256)
    voice: float,  # voice activity of the newest sound, the look-ahead's
    state: GateState,
    hop_frames: int,
    config: GateConfig,
) -> NDArray[np.float32]:
    """(hop_frames,) gate values 0..1 of the hop's frames; changes `state`."""
    phonemes = _ramp(1.0 - features[:, SILENCE_INDEX], config.start, config.full)
    confirmed = float(_ramp(np.float32(voice), config.voice_start, config.voice_full))
    certain = _ramp(1.0 - features[:, SILENCE_INDEX], config.certain_start, config.certain_full)
    out = np.zeros(hop_frames, np.float32)
    for i in range(hop_frames):
        heard = float(phonemes[i : i + 3].max())
        sure = float(certain[i])  # not in the look-ahead, where the onset of any noise looks like speech
        wanted = max(heard * confirmed, sure * config.trusted if state.trust >= 1.0 else 0.0)
        _trust(state, sure, confirmed, config)
        if state.hushed_frames:
            state.value = max(0.0, state.value - 1.0 / config.hush_frames)
            state.hushed_frames -= 1
        elif wanted >= state.value:
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


def _trust(state: GateState, heard: float, confirmed: float, config: GateConfig) -> None:
    """Use trust up where no voice confirms what is heard; where it is used up, nothing is held open."""
    if confirmed >= 1.0 and heard > 0.5:
        state.trust = config.trust_frames
    elif heard > confirmed and state.trust >= 1.0:
        state.trust -= heard - confirmed
        if state.trust < 1.0:
            state.quiet_frames = max(state.quiet_frames, config.hold_frames)


def _ramp(value: NDArray[np.float32] | np.float32, start: float, full: float) -> NDArray[np.float32]:
    return np.asarray(np.clip((value - start) / (full - start), 0.0, 1.0), np.float32)
