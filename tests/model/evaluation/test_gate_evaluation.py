"""The gate's evaluation: its motion is the served one, and each gate is judged on the same motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.errors import DataError
from model.evaluation.gate import GATES, Spoken, gated_motion, noise_shares, raw_motion, speech_figures, speech_level
from model.evaluation.lips import LipClip, stream_motion
from model.evaluation.speech_drive import Movement
from model.motion.space import load_motion_space
from model.speech.phonemes import SILENCE_INDEX
from model.speech_to_motion import SpeechToMotion
from tests.support.closeness import assert_close
from tests.support.small_drive import small_drive

HOP, AHEAD = 2, 2


@pytest.fixture(scope="module")
def drive() -> SpeechToMotion:
    return small_drive(num_steps=1)


def clip(frames: int, seed: int, *, speech: float, voice: float) -> LipClip:
    generator = torch.Generator().manual_seed(seed)
    hops = -(-(frames + AHEAD) // HOP)
    features = torch.randn(hops, HOP + AHEAD, 256, generator=generator)
    features[..., SILENCE_INDEX] = 1.0 - speech
    truth = torch.randn(frames, 32, generator=generator).numpy()
    return LipClip(features, (voice,) * hops, truth, np.zeros(frames, np.float32))


def test_raw_motion_through_the_gate_is_what_is_served(drive: SpeechToMotion) -> None:
    clips = [clip(12, 0, speech=1.0, voice=1.0), clip(7, 1, speech=0.15, voice=0.0)]
    raw = raw_motion(clips, drive, drive.stack.generator, 0)
    for made, one, served in zip(raw, clips, stream_motion(clips, drive), strict=True):
        assert_close(gated_motion(one, made, drive), served)


def test_each_gate_judges_the_same_motion(drive: SpeechToMotion) -> None:
    space = load_motion_space()
    talk, breath = clip(40, 0, speech=1.0, voice=1.0), clip(40, 1, speech=0.15, voice=0.0)
    raw = raw_motion([talk, breath], drive, drive.stack.generator, 0)
    spoken = Spoken([talk], raw[:1], [raw[:1], raw[:1]], [(2, 30)])
    lips = {}
    for name, gate in GATES.items():
        gated = replace(drive, gate=gate)
        level = speech_level(spoken, gated, space)
        shares = noise_shares({"breath": [(breath, raw[1])]}, gated, space, level, name)
        lips[name] = shares["breath_lips"].value
        assert (shares["breath_lips"].goal is None) == (name != "served")
        found = speech_figures(spoken, gated, space, name)
        assert {"lip_opening_r", "lip_opening_r_one_sample", "lip_opening_r_mean_of_2"} <= found.keys()
    assert lips["no_breath"] == 0.0 < lips["served"] < lips["open"]


def test_a_speech_level_needs_words(drive: SpeechToMotion) -> None:
    talk = clip(12, 0, speech=1.0, voice=1.0)
    raw = raw_motion([talk], drive, drive.stack.generator, 0)
    with pytest.raises(DataError, match="alignments"):
        speech_level(Spoken([talk], raw, [], [(0, 0)]), drive, load_motion_space())
    assert noise_shares({}, drive, load_motion_space(), Movement(1.0, 1.0), "served") == {}
