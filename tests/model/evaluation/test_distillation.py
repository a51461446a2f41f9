"""Teacher against student on made-up draws: equal, shrunken, still; and a stream that is the served one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.diffusion.generator import MotionGenerator
from model.errors import InputError
from model.evaluation.closures import mouth_events
from model.evaluation.distillation import (
    Draws,
    clip_ratios,
    closures_made,
    draw_clips,
    frechet_ratio,
    hop_times,
    paired_rmse,
    stream_sessions,
)
from model.evaluation.lip_rows import TrueClip
from model.evaluation.lips import LipClip, ungated_motion
from model.evaluation.motion_weights import other_sampler
from model.motion.space import MotionSpace, load_motion_space
from model.speech.phonemes import INDEX, SILENCE_INDEX
from model.speech_to_motion import SpeechToMotion
from tests.support.closeness import assert_close
from tests.support.small_drive import small_drive, small_unet

FRAMES, DRAWS, CLIPS = 75, 6, 12


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture(scope="module")
def drive() -> SpeechToMotion:
    return replace(small_drive(), smoother=None)


def made_up(space: MotionSpace, *, seed: int, own: float = 1.0, shared: float = 1.0) -> Draws:
    """A course that each clip's sound gives, and of each draw its own around it."""
    clip = np.random.default_rng(99).standard_normal((1, CLIPS, FRAMES, 16))
    draw = np.random.default_rng(seed).standard_normal((DRAWS, CLIPS, FRAMES, 16))
    codes = gaussian_filter1d(shared * clip + own * draw, 1.5, axis=2).astype(np.float32)
    motion = np.zeros((*codes.shape[:3], 32), np.float32)
    motion[..., :16] = codes
    return Draws(codes, motion, space.lip_opening(motion).astype(np.float64))


def clip(frames: int, seed: int) -> LipClip:
    hops = -(-(frames + 2) // 2)
    features = torch.randn(hops, 4, 256, generator=torch.Generator().manual_seed(seed))
    features[..., SILENCE_INDEX] = 0.0
    return LipClip(features, (1.0,) * hops, np.zeros((frames, 32), np.float32), np.zeros(frames, np.float32))


def test_draws_of_the_same_sampler_are_as_near_as_the_floor(space: MotionSpace) -> None:
    teacher, student = made_up(space, seed=0), made_up(space, seed=1)
    ratio, _ = frechet_ratio(student.latents, teacher.latents)
    assert ratio == pytest.approx(1.0, abs=0.15)
    for values in clip_ratios(student, teacher, space).values():
        assert values.shape == (CLIPS,)
    assert clip_ratios(student, teacher, space)["diversity_ratio"].mean() == pytest.approx(1.0, abs=0.1)


def test_a_student_without_diversity_is_found_out_though_each_sample_moves(space: MotionSpace) -> None:
    teacher, student = made_up(space, seed=0), made_up(space, seed=0, own=0.2)
    ratios = clip_ratios(student, teacher, space)
    assert ratios["diversity_ratio"] == pytest.approx(0.2, abs=1e-3)
    assert (ratios["spread_ratio"] > 0.5).all() and (ratios["streamed_opening_ccc"] > 0.5).all()
    assert frechet_ratio(student.latents, teacher.latents)[0] > 2.0


def test_the_same_motion_at_half_size_has_half_of_everything(space: MotionSpace) -> None:
    teacher = made_up(space, seed=0)
    half = Draws(teacher.latents / 2, teacher.motion / 2, teacher.opening / 2)
    ratios = clip_ratios(half, teacher, space)
    for name in ("spread_ratio", "diversity_ratio", "jerk_ratio"):
        assert ratios[name] == pytest.approx(0.5, rel=1e-4), name


def test_one_draw_has_no_floor(space: MotionSpace) -> None:
    one = made_up(space, seed=0).latents[:1]
    with pytest.raises(InputError, match="two or more"):
        frechet_ratio(one, one)


def test_closures_are_counted_over_clips_and_draws(space: MotionSpace) -> None:
    phones = np.full(4 * FRAMES, INDEX["ae"], np.int64)
    phones[80:100] = INDEX["b"]
    truth = [TrueClip(f"clip{i}", np.zeros((FRAMES, 32), np.float32), mouth_events(phones, FRAMES)) for i in range(2)]
    opening = np.ones((2, 2, FRAMES))
    opening[..., 0] = 0.0
    opening[0, :, 20:25] = 0.0  # both clips close in the first draw only
    draws = replace(made_up(space, seed=0), opening=opening)
    assert closures_made(draws, truth) == 0.5
    assert np.isnan(closures_made(draws, [TrueClip(t.key, t.motion, None) for t in truth]))


def test_streams_are_what_is_served_with_the_gate_open(drive: SpeechToMotion) -> None:
    clips, sampler = [clip(12, 0), clip(12, 1)], drive.stack.generator
    _, made = stream_sessions(clips, sampler, drive.stack.vae, [0, 0])
    for one, served in zip(made, ungated_motion(clips, drive), strict=True):
        assert np.abs(served).max() > 0.01
        assert_close(one, served)


def test_draws_have_noise_of_their_own_and_repeat_themselves(drive: SpeechToMotion, space: MotionSpace) -> None:
    clips, vae = [clip(10, 0), clip(12, 0)], drive.stack.vae
    draws, again = (draw_clips(clips, drive.stack.generator, vae, space, draws=2) for _ in range(2))
    assert draws.latents.shape == (2, 2, 10, 16) and draws.opening.shape == (2, 2, 10)
    assert np.array_equal(draws.motion, again.motion)
    rows: NDArray[np.float32] = draws.latents.reshape(4, -1)
    assert min(np.abs(a - b).max() for i, a in enumerate(rows) for b in rows[:i]) > 1e-3
    calm = other_sampler(drive.stack.generator.unet, drive, num_steps=2, temperature=0.0)
    assert np.ptp(draw_clips(clips, calm, vae, space, draws=2).latents, axis=0).max() < 1e-5


def test_pairs_share_past_and_noise(drive: SpeechToMotion) -> None:
    clips, teacher = [clip(12, 0), clip(12, 1)], drive.stack.generator
    others = {n: other_sampler(teacher.unet, drive, num_steps=steps) for n, steps in (("same", 2), ("other", 5))}
    found = paired_rmse(clips, teacher, others, every_hops=2)
    assert found["same"] == 0.0 and found["other"] > 1e-3
    stranger = {"stranger": other_sampler(small_unet(seed=5), drive, num_steps=2)}
    assert paired_rmse(clips, teacher, stranger)["stranger"] > found["other"]


def test_time_is_taken_of_each_hop_after_the_first_two(drive: SpeechToMotion) -> None:
    slow = MotionGenerator(drive.stack.generator.unet, torch.zeros(16), num_steps=20, temperature=1.0)
    times = hop_times({"slow": slow, "fast": drive.stack.generator}, clip(20, 0).features, drive.stack.vae)
    assert {name: len(values) for name, values in times.items()} == {"slow": 9, "fast": 9}
    assert np.median(times["slow"]) > 2 * np.median(times["fast"])
