"""Does the face in the browser do what the models make of this very sound? A call's mouth against an offline run.

Loudness alone cannot tell: an articulate mouth closes for p, b and m and rounds in the middle of loud speech.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.motion.retarget import Retarget
from model.motion.space import load_motion_space
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.speech_to_motion import SpeechToMotion, motion_of_sound
from tests.browser.harness import Traces

SIZE_PX = 96
STEP_FRAMES = 0.25
SETTLE_FRAMES = 75
"""The call began before the recording: until then its running maximum is not that of an offline run."""
LEAST_OVERLAP_FRAMES = 300


def mouth_as_expected(traces: Traces) -> float:
    """Greatest correlation of the mouth's brightness with that of the avatar moved by the captured sound, head still.

    Frames are placed by their time codes, since the browser shows them unevenly; where the recording began in the
    call's own count of frames is searched.
    """
    expected_luma = _mouth_luma(motion_of_sound(traces.sound, SpeechToMotion.load())[0])
    known = ~np.isnan(traces.index)
    index, luma = traces.index[known], traces.luma[known]
    scores = []
    for start in np.arange(index[0] - 50, index[-1], STEP_FRAMES):
        inside = (index - start >= SETTLE_FRAMES) & (index - start < len(expected_luma) - 1)
        if inside.sum() >= LEAST_OVERLAP_FRAMES:
            expected = np.interp(index[inside] - start, np.arange(len(expected_luma)), expected_luma)
            scores.append(float(np.corrcoef(luma[inside], expected)[0, 1]))
    return max(scores)


def _mouth_luma(motion: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T,) mean brightness of the shipped avatar's mouth box for the speaker's motion (T, 32)."""
    avatar, space = load_avatar(), load_motion_space()
    renderer = AvatarRenderer(avatar, size_px=SIZE_PX)
    x0, y0, x1, y1 = (round(edge * SIZE_PX) for edge in avatar.config.mouth_box)
    shown = Retarget.load(avatar.folder)(space.clamp(motion))
    return np.array([renderer.render(row, HeadPose())[y0:y1, x0:x1].mean() for row in shown], np.float64)
