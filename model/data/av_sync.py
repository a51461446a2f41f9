"""Does a clip's sound belong to its lips, and by how much is it off? Measured with the shipped speech-to-motion model.

The lip opening that the model expects from the sound is correlated with the tracked one at every shift of up to
`max_shift_frames`, both without their slow part (sentences have much the same envelope; syllables do not). Peak and
confidence (peak minus median over shifts) follow SyncNet's protocol (Chung and Zisserman
2016), in correlation instead of embedding distance. Offline only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.motion.space import load_motion_space
from model.speech_to_motion import SpeechToMotion, motion_of_sound

Array = NDArray[np.float32]
SAMPLES_PER_FRAME = 640
SYLLABLE_SIGMA_FRAMES = 8.0  # what is slower than about half a second is taken out before correlating


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncConfig:
    """What counts as in sync."""

    max_shift_frames: int = 15
    left_frames: int = 1  # as near as a clip of three seconds can be judged: not worth a shift
    accepted_frames: int = 3  # a larger offset is refused
    min_confidence: float = 0.55  # below, the offset is not believed
    min_peak: float = 0.45
    min_speech_frames: int = 15


@dataclass(frozen=True, slots=True)
class SyncResult:
    """Offset of the sound against the picture."""

    offset_frames: int  # > 0: the sound comes too late by so many frames
    lag_frames: float  # the same between frames
    confidence: float  # peak correlation minus the median over all shifts
    peak: float  # correlation at the best shift
    speech_frames: int
    judged: bool  # False where there is too little speech or no clear peak


def measure_sync(lip_opening: Array, audio: NDArray[np.int16], config: SyncConfig | None = None) -> SyncResult:
    """Offset between a tracked lip opening (T,) and 16 kHz sound (T * 640,)."""
    settings = config or SyncConfig()
    expected, speech_frames = expected_opening(audio, len(lip_opening))
    shifts = np.arange(-settings.max_shift_frames, settings.max_shift_frames + 1)
    seen, heard = _syllables(lip_opening), _syllables(expected)
    scores = np.array([shifted_correlation(seen, heard, int(s)) for s in shifts])
    best = int(scores.argmax())
    lag = float(shifts[best]) + _peak_between(scores, best)
    confidence = float(scores[best] - np.median(scores))
    judged = (
        speech_frames >= settings.min_speech_frames
        and confidence >= settings.min_confidence
        and float(scores[best]) >= settings.min_peak
    )
    return SyncResult(round(lag), lag, confidence, float(scores[best]), speech_frames, judged)


def shifted_correlation(seen: Array, heard: Array, shift: int) -> float:
    """Pearson r of seen[t] and heard[t + shift]; 0 where either does not move or fewer than 12 frames overlap."""
    a = seen[max(0, -shift) : len(seen) - max(0, shift)]
    b = heard[max(0, shift) : len(heard) - max(0, -shift)]
    if len(a) < 12 or a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _syllables(signal: Array) -> Array:
    slow = gaussian_filter1d(signal, SYLLABLE_SIGMA_FRAMES, mode="nearest")
    return np.asarray(signal - slow, np.float32)


def _peak_between(scores: NDArray[np.float64], best: int) -> float:
    """Where the parabola through the best score and its neighbours peaks, -0.5..0.5 from the best."""
    if not 0 < best < len(scores) - 1:
        return 0.0
    before, top, after = scores[best - 1 : best + 2]
    bend = before - 2 * top + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0


def shift_audio(audio: NDArray[np.int16], offset_frames: int) -> NDArray[np.int16]:
    """Sound moved earlier by `offset_frames` (later where negative), same length, silence where nothing is known."""
    samples = offset_frames * SAMPLES_PER_FRAME
    out = np.zeros_like(audio)
    if samples >= 0:
        out[: len(audio) - samples] = audio[samples:]
    else:
        out[-samples:] = audio[:samples]
    return out


def expected_opening(audio: NDArray[np.int16], frames: int) -> tuple[Array, int]:
    """Lip opening (frames,) that the shipped model gives this sound (conditional mean), and how many frames are speech.

    The sound goes through the serving path hop by hop, so memory does not grow with its length.
    """
    sound = np.pad(audio.astype(np.float32) / 32768.0, (0, max(0, frames * SAMPLES_PER_FRAME - len(audio))))
    motion, gate = motion_of_sound(sound[: frames * SAMPLES_PER_FRAME], _drive())
    return load_motion_space().lip_opening(motion), int((gate > 0.5).sum())


@cache
def _drive() -> SpeechToMotion:
    """Weights, read once per process and never changed."""
    return SpeechToMotion.load()
