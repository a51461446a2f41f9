"""How loud a voice is when a session begins does not change what its mouth does: real speech, as served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.audio_file import SAMPLE_RATE, read_audio
from model.motion.space import MOUTH_CODES
from model.speech_to_motion import SpeechToMotion, motion_of_sound

SECONDS = 2
QUIETER = np.float32(0.25)  # -12 dB
WITHIN_SD = 0.25
"""Root mean square over the mouth codes and 200 ms: speech moves them by one standard deviation."""
Array = NDArray[np.float32]


def apart(a: Array, b: Array) -> float:
    """Largest difference of two motions (T, 32), over stretches of five frames."""
    codes = (a - b)[:, MOUTH_CODES]
    return float(np.sqrt(np.square(codes).reshape(-1, 5 * codes.shape[1]).mean(1)).max())


def test_a_loud_start_moves_the_mouth_as_a_quiet_one_does(data_folder: Path) -> None:
    drive = SpeechToMotion.load()
    spoken = read_audio(data_folder / "grid_others" / "lbbc2a.mpg")[: SECONDS * SAMPLE_RATE]
    fading = spoken * QUIETER
    fading[:SAMPLE_RATE] = spoken[:SAMPLE_RATE]  # loud for a second, then as quiet as the other
    as_recorded, quiet, faded = (motion_of_sound(s, drive)[0] for s in (spoken, spoken * QUIETER, fading))
    assert np.abs(np.diff(as_recorded[:, MOUTH_CODES], axis=0)).max() > 0.2  # he speaks
    assert apart(as_recorded, quiet) < WITHIN_SD
    assert apart(as_recorded, faded) < WITHIN_SD
