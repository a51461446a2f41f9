"""Does the face in the browser do what the models make of this very sound? A call's mouth against an offline run.

Loudness alone cannot tell: an articulate mouth closes for p, b and m and rounds in the middle of loud speech.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.audio_file import read_audio
from model.motion.space import load_motion_space
from model.speech_to_motion import SpeechToMotion, motion_of_sound
from tests.browser.harness import Measured

STEP_MS = 10
LONGEST_LAG_MS = 900
LEAST_ALIGNMENT_R = 0.7
FLOOR_DB = -40.0
"""Below this the browser's noise suppression decides what is left."""
Array = NDArray[np.float64]


def mouth_as_expected(measured: Measured, microphone: Path) -> tuple[float, float]:
    """Correlation of the mouth's darkness with the lip opening that the shipped models give the microphone's sound,
    and the lag (ms) at which it is greatest. Chromium plays the file over and over."""
    sound = read_audio(microphone)
    opening = load_motion_space().lip_opening(motion_of_sound(np.tile(sound, 2), SpeechToMotion.load())[0])
    length_ms = len(sound) / 16.0
    traces = measured.traces
    times = np.arange(traces.heard_ms[0], traces.heard_ms[-1], STEP_MS)
    heard = np.maximum(np.interp(times, traces.heard_ms, traces.level_db), FLOOR_DB)
    start_ms = _place_in_file(heard, sound) - times[0]
    grid = np.arange(times[0] + 1000, min(times[-1], traces.shown_ms[-1]), STEP_MS)
    mouth = np.interp(grid, traces.shown_ms, traces.dark)
    centres_ms = np.arange(len(opening)) * 40.0 + 20.0
    best = (-2.0, 0.0)
    for lag_ms in range(0, LONGEST_LAG_MS, STEP_MS):
        at = (grid - lag_ms + start_ms) % length_ms + length_ms  # the second time round: a stream that goes on
        r = float(np.corrcoef(mouth, np.interp(at, centres_ms, opening))[0, 1])
        best = max(best, (r, float(lag_ms)))
    return best


def _place_in_file(heard: Array, sound: NDArray[np.float32]) -> float:
    """Where in the file (ms) the heard loudness begins, the file being repeated."""
    power = np.square(sound[: len(sound) // 160 * 160].astype(np.float64)).reshape(-1, 160).mean(1)
    level = np.maximum(10 * np.log10(power + 1e-9), FLOOR_DB)
    rounds = np.tile(level, 2 + len(heard) // len(level))
    scores = [np.corrcoef(heard, rounds[i : i + len(heard)])[0, 1] for i in range(len(level))]
    assert max(scores) >= LEAST_ALIGNMENT_R, "the microphone's sound is not found in its file"
    return float(np.argmax(scores)) * STEP_MS
