"""Served motion is the same at every level of the native library, and nearer to fp32 than bf16 ever was."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.native import cpu_info
from model.capacity import syllables
from model.speech.log_mel import SAMPLE_RATE
from model.speech_to_motion import SpeechToMotion, motion_of_sound

HOPS = 12
TOLERANCE = 1e-3  # deviations of motion codes; bf16 serving is allowed 0.08 (test_pipeline.py)


def motion(instruction_set: str, sound: np.ndarray) -> np.ndarray:
    drive = SpeechToMotion.load(instruction_set=instruction_set)
    return motion_of_sound(sound, drive)[0]


@pytest.mark.nightly
@pytest.mark.skipif(not cpu_info().built, reason="the native library is not built")
def test_levels_move_the_mouth_alike() -> None:
    sound = syllables(HOPS * 1280, SAMPLE_RATE)
    first, *others = (motion(level, sound) for level in cpu_info().instruction_sets)
    assert np.abs(first).max() > 0.5
    for other in others:
        assert np.abs(other - first).max() < TOLERANCE
