"""Same seed: alone = batch of 8 = sound in other pieces = after a pause; and what is not so is found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.diffusion.generator import MotionGenerator, MotionState
from model.errors import InputError
from model.evaluation.streaming_motion import GOAL, play, play_paused, streaming_differences, streaming_figures
from model.motion.voice_gate import ALWAYS_OPEN
from model.motion_stack import MotionStack
from model.speech_to_motion import SpeechToMotion
from tests.support.made_speech import made_speech
from tests.support.small_drive import small_drive

SOUNDS = [made_speech(1.6, seed=seed) for seed in range(8)]


@pytest.fixture(scope="module")
def drive() -> SpeechToMotion:
    return replace(small_drive(), gate=ALWAYS_OPEN)


class Distracted(MotionGenerator):
    """Looks at its neighbours: each session's latents lean towards the batch's mean."""

    @torch.inference_mode()
    def step(self, features: Tensor, states: Sequence[MotionState], poses: Tensor | None = None) -> Tensor:
        latents = super().step(features, states, poses)
        return latents + 0.01 * latents.mean(0)


def with_sampler(drive: SpeechToMotion, kind: type[MotionGenerator]) -> SpeechToMotion:
    g = drive.stack.generator
    sampler = kind(g.unet, g.rest_latent, num_steps=g.num_steps, temperature=g.temperature)
    return replace(drive, stack=MotionStack(drive.stack.speech, sampler, drive.stack.vae))


def test_a_session_depends_on_its_seed_and_its_sound_alone(drive: SpeechToMotion) -> None:
    found = streaming_differences(drive, SOUNDS)
    assert {"batch_of_8", "packets_of_4_hops", "packets_of_641_samples", "paused_and_resumed"} <= set(found)
    assert max(found.values()) <= GOAL
    assert not any(figure.missed for figure in streaming_figures({1.0: found}).values())


def test_it_moves_and_its_seed_counts(drive: SpeechToMotion) -> None:
    hop = drive.hop_samples
    one, other = (play(drive, SOUNDS[:1], [seed], packet_samples=hop)[0] for seed in (0, 1))
    assert one.shape == (40, 32)
    assert np.ptp(one, axis=0).max() > 0.1 and np.abs(one - other).max() > 0.1


def test_a_sampler_that_looks_at_its_neighbours_is_found_out(drive: SpeechToMotion) -> None:
    found = streaming_differences(with_sampler(drive, Distracted), SOUNDS[:3])
    assert found["packets_of_2_hops"] == 0.0
    assert found["batch_of_3"] > 10 * GOAL and found["paused_and_resumed"] > 10 * GOAL


def test_a_pause_loses_no_frame_and_the_others_play_on(drive: SpeechToMotion) -> None:
    sounds: list[NDArray[np.float32]] = [sound[: 12 * drive.hop_samples] for sound in SOUNDS[:2]]
    assert play_paused(drive, sounds, [3, 4]).shape == (24, 32)


@pytest.mark.parametrize("sounds", [SOUNDS[:1], [sound[:1000] for sound in SOUNDS[:2]]])
def test_one_sound_or_short_ones_are_refused(drive: SpeechToMotion, sounds: list[NDArray[np.float32]]) -> None:
    with pytest.raises(InputError, match="two sounds"):
        streaming_differences(drive, sounds)
