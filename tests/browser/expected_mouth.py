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
SLOW_FRAMES = 25
FRAME_SAMPLES = 640
STEP_FRAMES = 0.25
EARLIEST_FRAMES = -200  # the sound is recorded from before the call's first frame
SETTLE_FRAMES = 75
LEAST_OVERLAP_FRAMES = 300


def mouth_as_expected(traces: Traces) -> float:
    """Greatest correlation of the mouth's brightness with that of the avatar moved by the captured sound, head still.

    Both without what is slower than about a second: sway turns the face in the light, and its seed is the server's.
    Frames are placed by their time codes, since the browser shows them unevenly. First it is searched where the
    recording began in the call's own count of frames; then the models hear it from the call's first sample on, as the
    server did: a loud beginning stays in the memory of both, and what it does there depends on where the hops begin.
    """
    known = ~np.isnan(traces.index)
    index = np.arange(traces.index[known][0], traces.index[known][-1] + 1)
    luma = _fast(np.interp(index, traces.index[known], traces.luma[known]))
    _, began = _best(index, luma, _expected(traces.sound), np.arange(EARLIEST_FRAMES, index[-1], STEP_FRAMES))
    before = max(0, round(-began * FRAME_SAMPLES))
    began += before / FRAME_SAMPLES
    expected = _expected(traces.sound[before:])
    return _best(index, luma, expected, np.arange(began - 2, began + 2, STEP_FRAMES))[0]


def _best(
    index: NDArray[np.float64], luma: NDArray[np.float64], expected: NDArray[np.float64], starts: NDArray[np.float64]
) -> tuple[float, float]:
    """Greatest correlation, and at which of `starts` (frame index of the recording's first sample)."""
    found = [(-1.0, 0.0)]
    for start in starts:
        inside = (index - start >= SETTLE_FRAMES) & (index - start < len(expected) - 1)
        if inside.sum() >= LEAST_OVERLAP_FRAMES:
            wanted = np.interp(index[inside] - start, np.arange(len(expected)), expected)
            found.append((float(np.corrcoef(luma[inside], wanted)[0, 1]), float(start)))
    return max(found)


def _expected(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    return _fast(_mouth_luma(motion_of_sound(sound, SpeechToMotion.load())[0]))


def _fast(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) less its running mean over `SLOW_FRAMES`."""
    padded = np.pad(series, SLOW_FRAMES // 2, mode="edge")
    return series - np.convolve(padded, np.full(SLOW_FRAMES, 1 / SLOW_FRAMES), mode="valid")


def _mouth_luma(motion: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T,) mean brightness of the shipped avatar's mouth box for the speaker's motion (T, 32)."""
    avatar, space = load_avatar(), load_motion_space()
    renderer = AvatarRenderer(avatar, size_px=SIZE_PX)
    x0, y0, x1, y1 = (round(edge * SIZE_PX) for edge in avatar.config.mouth_box)
    shown = Retarget.load(avatar.folder)(space.clamp(motion))
    return np.array([renderer.render(row, HeadPose())[y0:y1, x0:x1].mean() for row in shown], np.float64)
