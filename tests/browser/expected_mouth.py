"""Does the face in the browser do what the models make of this very sound? A call's mouth against an offline run.

Loudness alone cannot tell: an articulate mouth closes for p, b and m and rounds in the middle of loud speech.
"""

from __future__ import annotations

import numpy as np

from model.motion.space import load_motion_space
from model.speech_to_motion import SpeechToMotion, motion_of_sound
from tests.browser.harness import Traces

STEP_FRAMES = 0.25
SETTLE_FRAMES = 75
"""The call began before the recording: until then its running maximum is not that of an offline run."""
LEAST_OVERLAP_FRAMES = 300


def mouth_as_expected(traces: Traces) -> float:
    """Greatest correlation of the mouth's darkness with the lip opening that the models give the captured sound.

    Frames are placed by their time codes, since the browser shows them unevenly; where the recording began in the
    call's own count of frames is searched.
    """
    opening = load_motion_space().lip_opening(motion_of_sound(traces.sound, SpeechToMotion.load())[0])
    known = ~np.isnan(traces.index)
    index, dark = traces.index[known], -traces.luma[known]
    scores = []
    for start in np.arange(index[0] - 50, index[-1], STEP_FRAMES):
        inside = (index - start >= SETTLE_FRAMES) & (index - start < len(opening) - 1)
        if inside.sum() >= LEAST_OVERLAP_FRAMES:
            expected = np.interp(index[inside] - start, np.arange(len(opening)), opening)
            scores.append(float(np.corrcoef(dark[inside], expected)[0, 1]))
    return max(scores)
