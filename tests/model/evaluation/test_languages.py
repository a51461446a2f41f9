"""Closures of synthetic speech: counted from exact phones, and texts that follow from a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.utterance import Utterance
from model.data.voices import EspeakSynthesiser
from model.errors import DataError
from model.evaluation.languages import language_utterances, spoken_figures
from model.motion.space import MotionSpace, load_motion_space
from model.speech.phonemes import INDEX
from model.speech_to_motion import SpeechToMotion
from tests.support.made_speech import made_speech
from tests.support.small_drive import small_drive

FRAMES = 50


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


def said(seed: int) -> Utterance:
    """Open vowels around two closures; the labels end before the sound's last, partial frame."""
    phones = np.full(4 * FRAMES, INDEX["ae"], np.int64)
    phones[60:68], phones[120:128] = INDEX["b"], INDEX["m"]
    audio = np.append(made_speech(FRAMES / 25, seed=seed), np.zeros(300, np.float32))
    return Utterance(audio=audio, phonemes=phones, voice="made", language="xx", text="aba ama")


class Opening(MotionSpace):
    """A space whose lips do what a test says."""

    signal: NDArray[np.float32]

    def lip_opening(self, motion: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.signal[: len(motion)]


def lips(space: MotionSpace, signal: NDArray[np.float32]) -> MotionSpace:
    made = Opening(**{name: getattr(space, name) for name in MotionSpace.__dataclass_fields__})
    object.__setattr__(made, "signal", signal)
    return made


def test_closures_at_the_right_frames_score_one(space: MotionSpace) -> None:
    drive: SpeechToMotion = replace(small_drive(), smoother=None)
    signal = np.ones(FRAMES, np.float32)
    signal[[15, 16, 30, 31]] = 0.0
    figures = spoken_figures("xx", [said(0), said(1)], drive, lips(space, signal), goal=0.7)
    assert figures["xx.closure_f1"].value == 1.0 and figures["xx.closure_f1"].goal == 0.7
    assert figures["xx.closures_made"].value == 1.0 and figures["xx.open_vowels_shut"].value == 0.0
    assert figures["xx.closure_f1_gate_open"].goal is None
    assert 0.0 <= figures["xx.closure_f1_loudness"].value < 1.0
    half = signal.copy()
    half[[30, 31]] = 1.0
    found = spoken_figures("xx", [said(0)], drive, lips(space, half))
    assert found["xx.closures_made"].value == 0.5
    assert found["xx.closure_f1"].value == pytest.approx(2 / 3)


def test_texts_follow_from_the_seed_and_the_language() -> None:
    try:
        espeak = EspeakSynthesiser()
    except DataError as error:
        pytest.skip(str(error))
    first, again, other = (
        [u.text for u in language_utterances(espeak, language, 3, seed)]
        for language, seed in (("de", 5), ("de", 5), ("de", 6))
    )
    assert first == again != other
    assert {u.language for u in language_utterances(espeak, "fr", 2, 5)} == {"fr"}
    with pytest.raises(DataError, match="no training language 'nl'"):
        language_utterances(espeak, "nl", 1, 5)
