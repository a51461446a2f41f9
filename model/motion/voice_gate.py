"""Blends the mouth to rest while nobody speaks: a gate from the encoder's own phonemes and from voice activity.

The encoder's posterior of silence is exact in time, but it was trained on little real noise; the voice activity
detector knows music, keyboards and breath, but is late, by more at the start of a sentence. So the phonemes are trusted
for some frames, until voice activity has confirmed or not confirmed them; what it does not confirm uses that trust up,
and is shut out until a voice is heard.
The gate opens at once and closes slowly, so that closures inside words stay the diffusion's business.

A mouth opens with the breath before a sentence, a quarter of a second before anything is speech or voice. So faint
hints of sound (a breath is not quite silence to the phonemes) let the model's motion through as well, gently; but only
for some frames, which a confirmed voice gives back: noise that no voice follows moves the mouth once, for less than a
second, and noise that is louder than breath not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.speech.phonemes import SILENCE_INDEX
from model.speech.speech_model import PROSODY_SLICE


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """When the gate opens and closes.

    start, full: Speech probability (by the encoder's phonemes) that starts and fully opens it.
    voice_start, voice_full: The same for voice activity.
    hold_frames, close_frames: Frames it stays open after speech, and takes to close.
    certain_start, certain_full: Speech probability that starts and fully opens it without voice activity.
    trust_frames, trusted: Frames for which it may, and how far.
    hush_frames: Frames it takes to close, whatever is heard, once speech was interrupted.
    breath_start, breath_full: Speech probability that starts to be and surely is a breath, or more.
    breath_quiet, breath_loud: Level (prosody's first number, -1..1) up to which that may be a breath, and from which on
        it is none.
    breath_frames: Frames for which a breath may move the mouth until a voice has followed.
    breath_rise, breath_fall: How much more, or less, of the motion it lets through from frame to frame.
    breath_surprise: Frames that a frame costs beyond its own where the phonemes are certain and no voice confirms them.
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
    breath_start: float = 0.055
    breath_full: float = 0.25
    breath_quiet: float = 0.15
    breath_loud: float = 0.35
    breath_frames: float = 20.0
    breath_rise: float = 0.25
    breath_fall: float = 0.03
    breath_surprise: float = 2.0

    def new_state(self) -> GateState:
        """A shut gate that trusts its phonemes and may draw breath."""
        return GateState(trust=self.trust_frames, breath_left=self.breath_frames)


ALWAYS_OPEN = GateConfig(start=-2.0, full=-1.0, voice_start=-2.0, voice_full=-1.0)
"""Every probability is above it: the mouth is never blended to rest."""


@dataclass
class GateState:
    """A session's gate: its value, the frames since speech was last heard, and how far its phonemes are trusted.

    `breath` is what a breath lets through, beside `value`, which is speech's; `breath_left` the frames it may still.
    """

    value: float = 0.0
    quiet_frames: int = 10_000
    trust: float = 0.0
    hushed_frames: int = 0
    breath: float = 0.0
    breath_left: float = 0.0

    def hush(self, config: GateConfig) -> None:
        """Speech was interrupted: close within `config.hush_frames`, though the look-ahead has heard more of it."""
        self.hushed_frames = config.hush_frames
        self.quiet_frames = max(self.quiet_frames, config.hold_frames)
        self.breath_left = 0.0


def open_gate(
    features: NDArray[np.float32],  # (hop + lookahead, 256)
    voice: float,  # voice activity of the newest sound, the look-ahead's
    state: GateState,
    hop_frames: int,
    config: GateConfig,
) -> NDArray[np.float32]:
    """(hop_frames,) gate values 0..1 of the hop's frames; changes `state`."""
    speech = 1.0 - features[:, SILENCE_INDEX]
    phonemes = _ramp(speech, config.start, config.full)
    confirmed = float(_ramp(np.float32(voice), config.voice_start, config.voice_full))
    certain = _ramp(speech, config.certain_start, config.certain_full)
    faint = _ramp(speech, config.breath_start, config.breath_full)
    level = features[:, PROSODY_SLICE.start]
    out = np.zeros(hop_frames, np.float32)
    for i in range(hop_frames):
        heard = float(phonemes[i : i + 3].max())
        sure = float(certain[i])  # not in the look-ahead, where the onset of any noise looks like speech
        wanted = max(heard * confirmed, sure * config.trusted if state.trust >= 1.0 else 0.0)
        _trust(state, sure, confirmed, config)
        quiet = 1.0 - float(_ramp(level[i : i + 3].max(), config.breath_quiet, config.breath_loud))
        _breathe(state, float(faint[i : i + 3].max()), quiet, sure, confirmed, config)
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
        out[i] = max(state.value, state.breath)
    return out


def _trust(state: GateState, heard: float, confirmed: float, config: GateConfig) -> None:
    """Use trust up where no voice confirms what is heard; where it is used up, nothing is held open."""
    if confirmed >= 1.0 and heard > 0.5:
        state.trust = config.trust_frames
    elif heard > confirmed and state.trust >= 1.0:
        state.trust -= heard - confirmed
        if state.trust < 1.0:
            state.quiet_frames = max(state.quiet_frames, config.hold_frames)


def _breathe(state: GateState, heard: float, quiet: float, sure: float, confirmed: float, config: GateConfig) -> None:
    """Let a breath's share of the motion rise and fall, and use up the frames it has until a voice is confirmed."""
    if state.hushed_frames:
        state.breath = max(0.0, state.breath - 1.0 / config.hush_frames)
        return
    if confirmed >= 1.0 and sure > 0.5:
        state.breath_left = config.breath_frames
    elif heard > 0.0:
        state.breath_left = max(0.0, state.breath_left - 1.0 - config.breath_surprise * max(0.0, sure - confirmed))
    wanted = heard * quiet if state.breath_left > 0.0 else 0.0
    fall = config.breath_fall if state.breath_left > 0.0 else 1.0 / config.close_frames
    state.breath = (
        min(wanted, state.breath + config.breath_rise) if wanted >= state.breath else max(wanted, state.breath - fall)
    )


def _ramp(value: NDArray[np.float32] | np.float32, start: float, full: float) -> NDArray[np.float32]:
    return np.asarray(np.clip((value - start) / (full - start), 0.0, 1.0), np.float32)
