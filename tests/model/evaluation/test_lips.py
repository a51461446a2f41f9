"""Served motion of several clips side by side is that of each alone; the shuffle keeps loudness and moves phonemes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.diffusion.generator import MotionGenerator
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.evaluation.lips import LipClip, sampled_motion, shuffled_motion, stream_motion, ungated_motion
from model.motion.vae import MotionVae, VaeConfig
from model.motion_stack import MotionStack
from model.speech.phonemes import SILENCE_INDEX
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.stream import SpeechFeatures
from model.speech.voice_activity import load_voice_activity
from model.speech.whisper_encoder import EncoderConfig
from model.speech_to_motion import SpeechToMotion
from tests.support.closeness import assert_close

HOP, AHEAD = 2, 2


@pytest.fixture(scope="module")
def drive() -> SpeechToMotion:
    torch.manual_seed(0)
    config = UNetConfig(channels=(16, 16), condition_size=16, context_size=16, num_heads=2)
    speech = SpeechModel(SpeechConfig(encoder=EncoderConfig(num_layers=1, width=32, num_heads=2)))
    features = SpeechFeatures(speech, hop_frames=HOP, lookahead_frames=AHEAD)
    generator = MotionGenerator(TemporalUNet(config), torch.zeros(16), num_steps=1)
    return SpeechToMotion(MotionStack(features, generator, MotionVae(VaeConfig())), load_voice_activity())


def clip(frames: int, seed: int) -> LipClip:
    hops = -(-(frames + AHEAD) // HOP)
    features = torch.randn(hops, HOP + AHEAD, 256, generator=torch.Generator().manual_seed(seed))
    features[..., SILENCE_INDEX] = 0.0  # speech: the gate is open
    return LipClip(features, (1.0,) * hops, np.zeros((frames, 32), np.float32), np.zeros(frames, np.float32))


def test_clips_side_by_side_move_as_each_alone(drive: SpeechToMotion) -> None:
    clips = [clip(12, 0), clip(7, 1), clip(10, 2)]
    together = stream_motion(clips, drive, seed=5)
    assert [m.shape for m in together] == [(12, 32), (7, 32), (10, 32)]
    for made, one in zip(together, clips, strict=True):
        assert np.abs(made).max() > 0
        assert_close(made, stream_motion([one], drive, seed=5)[0])


def test_the_gate_rests_the_mouth_and_can_be_left_open(drive: SpeechToMotion) -> None:
    heard = clip(40, 0)
    silent = replace(heard, voice=(0.0,) * len(heard.voice))
    assert not stream_motion([silent], drive)[0][20:].any()  # its first frames trust the phonemes
    assert_close(ungated_motion([silent], drive)[0], ungated_motion([heard], drive)[0])
    assert np.abs(ungated_motion([silent], drive)[0]).max() > 0


def test_samples_differ_and_repeat_themselves(drive: SpeechToMotion) -> None:
    clips = [clip(8, 0)]
    drawn, again = (sampled_motion(clips, drive, 3) for _ in range(2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(drawn, again, strict=True))
    assert np.abs(drawn[0][0] - drawn[1][0]).max() > 1e-3


def test_shuffled_phonemes_change_the_mouth_and_not_the_clip(drive: SpeechToMotion) -> None:
    clips = [clip(20, 0)]
    before = clips[0].features.clone()
    mixed = shuffled_motion(clips, drive)
    assert torch.equal(clips[0].features, before)
    assert all(np.abs(draw[0] - stream_motion(clips, drive)[0]).max() > 1e-3 for draw in mixed)
