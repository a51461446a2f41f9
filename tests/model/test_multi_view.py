"""Multi-view aggregation: the views, the average by agreement, and hops of motion from several views."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.diffusion.generator import MotionGenerator, MotionState
from model.diffusion.multi_view import SHARPNESS, MultiViewMotion, aggregate, view_poses
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import ConfigError, InputError
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.motion.view_bias import POSE_UNIT_DEG, ViewBias, code_sizes
from model.motion_stack import ASSETS, VAE_FILE

SPACE = load_motion_space()
BIAS = ViewBias.load()
SIZES = torch.from_numpy(code_sizes(SPACE))
CONFIG = UNetConfig(channels=(16, 24, 32), condition_size=16, context_size=16, num_heads=2, pose_size=3)
FEATURES = torch.randn(5, 3, 4, 256, generator=torch.Generator().manual_seed(2))  # hops, sessions


@pytest.fixture(scope="module")
def vae() -> MotionVae:
    checkpoint = load_checkpoint(ASSETS / VAE_FILE, kind="motion-vae", config_cls=VaeConfig)
    model = MotionVae(checkpoint.config)
    model.load_state_dict(checkpoint.tensors)
    return model.eval()


def small_generator(*, temperature: float = 1.0, pose_size: int = 3) -> MotionGenerator:
    torch.manual_seed(0)
    unet = TemporalUNet(
        UNetConfig(channels=CONFIG.channels, condition_size=16, context_size=16, num_heads=2, pose_size=pose_size)
    )
    for parameter in unet.parameters():  # the zero-initialised ends would hide mistakes
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return MotionGenerator(unet, torch.zeros(16), num_steps=2, temperature=temperature)


class KnownMotion:
    """Answers every view with what one known motion looks like from there; notes what it was asked."""

    def __init__(self, vae: MotionVae, motion: Tensor, change: Callable[[Tensor], Tensor] = lambda seen: seen) -> None:
        self.config = CONFIG
        self.vae = vae
        self.motion = motion  # (B, past + hop, 32)
        self.change = change
        self.features = torch.zeros(0)
        self.poses = torch.zeros(0)
        self.asked: list[MotionState] = []

    def step(self, features: Tensor, states: Sequence[MotionState], poses: Tensor | None = None) -> Tensor:
        poses = torch.zeros(len(states), 3) if poses is None else poses
        self.features, self.poses, self.asked = features, poses, [copy.copy(s) for s in states]
        motion = self.motion.repeat(len(states) // len(self.motion), 1, 1)
        seen = self.change(BIAS.apparent(motion, poses[:, None] * POSE_UNIT_DEG))
        for state in states:
            state.next_frame += self.config.hop_frames
        return self.vae.encode(seen)


def speech_like_motion(sessions: int, frames: int) -> Tensor:
    phase = torch.linspace(0, 6, frames)[None, :, None] + torch.arange(sessions)[:, None, None]
    motion = torch.zeros(sessions, frames, 32)
    motion[..., :20] = torch.sin(phase * torch.linspace(0.5, 1.5, 20)) * 0.8
    return motion


def started(config: UNetConfig, sessions: int) -> list[MotionState]:
    return [MotionState.start(config, torch.zeros(16), seed) for seed in range(sessions)]


def multi_view(generator: MotionGenerator | KnownMotion, vae: MotionVae, num_views: int) -> MultiViewMotion:
    return MultiViewMotion(generator, vae, BIAS, SPACE, num_views=num_views)


def run(motion: MultiViewMotion, features: Tensor, seeds: Sequence[int]) -> tuple[Tensor, list[MotionState]]:
    states = [MotionState.start(motion.generator.config, torch.zeros(16), seed) for seed in seeds]
    return torch.cat([motion.step(hop, states) for hop in features], 1), states


def test_views_lie_around_the_frontal_one() -> None:
    for num_views in (1, 3, 5):
        poses = view_poses(num_views, 8.0)
        assert poses.shape == (num_views, 3)
        assert torch.equal(poses[0], torch.zeros(3)) and torch.equal(poses.sum(0), torch.zeros(3))
        assert len(poses.unique(dim=0)) == num_views and poses.abs().max() <= 8.0
    with pytest.raises(ConfigError, match="1, 3 or 5 views, got 2"):
        view_poses(2)


def test_estimates_that_agree_are_averaged() -> None:
    one = speech_like_motion(2, 4)
    assert torch.equal(aggregate(one[None], sizes=SIZES), one)
    near = one + torch.linspace(-1e-3, 1e-3, 3)[:, None, None, None]
    torch.testing.assert_close(aggregate(near, sizes=SIZES), one, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(aggregate(near * 2, sharpness=0.0, sizes=SIZES), (near * 2).mean(0))


@pytest.mark.parametrize("num_views", [3, 5])
@pytest.mark.parametrize("wrong_by", [0.1, 1.0, 3.0, 100.0])
def test_one_wrong_estimate_hardly_pulls(num_views: int, wrong_by: float) -> None:
    true = speech_like_motion(2, 4)
    estimates = true.repeat(num_views, 1, 1, 1)
    estimates[-1, ..., :20] += wrong_by
    pull = ((aggregate(estimates, sizes=SIZES) - true) * SIZES).square().sum(-1).sqrt()
    distance = wrong_by * float(SIZES[:20].norm())
    assert pull.max() <= min(distance / num_views, 0.43 / SHARPNESS**0.5 / (num_views - 1)) + 1e-6
    if distance > 0.15:
        assert pull.max() < 1e-3


def test_the_order_of_the_views_does_not_matter() -> None:
    estimates = torch.randn(5, 2, 4, 32, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(aggregate(estimates.flip(0), sizes=SIZES), aggregate(estimates, sizes=SIZES))


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(InputError, match=r"got \(0, 1, 2, 32\)"):
        aggregate(torch.zeros(0, 1, 2, 32), sizes=SIZES)
    with pytest.raises(InputError, match=r"and -1"):
        aggregate(torch.zeros(1, 1, 2, 32), sharpness=-1.0, sizes=SIZES)


def test_more_views_need_a_model_that_knows_head_pose(vae: MotionVae) -> None:
    generator = small_generator(pose_size=0)
    with pytest.raises(ConfigError, match=r"3 views need .* pose_size 0"):
        multi_view(generator, vae, 3)
    assert run(multi_view(generator, vae, 1), FEATURES, (0, 1, 2))[0].isfinite().all()


def test_one_view_is_the_plain_path(vae: MotionVae) -> None:
    generator = small_generator()
    found, states = run(multi_view(generator, vae, 1), FEATURES, (0, 1, 2))
    plain = [generator.new_state(seed) for seed in range(3)]
    with torch.inference_mode():
        wanted = torch.cat([vae.decode(generator.step(hop, plain))[:, -2:] for hop in FEATURES], 1)
    assert torch.equal(found, wanted)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(states, plain, strict=True))


def test_what_is_committed_does_not_depend_on_the_number_of_views(vae: MotionVae) -> None:
    generator = small_generator()
    one, one_states = run(multi_view(generator, vae, 1), FEATURES, (0, 1, 2))
    for num_views in (3, 5):
        found, states = run(multi_view(generator, vae, num_views), FEATURES, (0, 1, 2))
        for a, b in zip(states, one_states, strict=True):
            torch.testing.assert_close(a.latents, b.latents, atol=1e-5, rtol=1e-4)
            assert a.next_frame == b.next_frame
        assert (found - one).abs().max() > 1e-3  # the views do say something else


def test_a_session_does_not_feel_who_shares_its_batch(vae: MotionVae) -> None:
    motion = multi_view(small_generator(), vae, 3)
    together, _ = run(motion, FEATURES, (4, 5, 6))
    for row, seed in enumerate((4, 5, 6)):
        alone, _ = run(motion, FEATURES[:, row : row + 1], (seed,))
        torch.testing.assert_close(together[row : row + 1], alone, atol=5e-5, rtol=1e-4)


def test_views_share_noise_and_sound_and_each_sees_the_past_from_its_place(vae: MotionVae) -> None:
    generator = KnownMotion(vae, speech_like_motion(2, 10))
    states = started(CONFIG, 2)
    with torch.inference_mode():
        motion = vae.decode(torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(3)).cumsum(1) * 0.3)
        past = vae.encode(motion)[:, 8:]
    for state, latents in zip(states, past, strict=True):
        state.latents = latents
    features = FEATURES[0, :2]
    multi_view(generator, vae, 3).step(features, states)
    assert torch.equal(generator.features, features.repeat(3, 1, 1))
    assert torch.equal(generator.poses * 20, view_poses(3).repeat_interleave(2, 0))
    assert [s.seed for s in generator.asked] == [0, 1] * 3
    assert {s.next_frame for s in generator.asked} == {-2} and {s.next_frame for s in states} == {0}
    assert all(torch.equal(generator.asked[row].latents, past[row]) for row in range(2))
    for view, pose_deg in enumerate(view_poses(3)[1:], 1):
        seen = torch.stack([s.latents for s in generator.asked[2 * view : 2 * view + 2]])
        with torch.inference_mode():
            wanted = vae.encode(BIAS.apparent(motion, pose_deg))[:, 8:]
        assert (seen - wanted)[:, 4:].norm() < 0.2 * (past - wanted)[:, 4:].norm()


@pytest.mark.parametrize("num_views", [3, 5])
def test_right_estimates_come_back_as_the_motion_itself(vae: MotionVae, num_views: int) -> None:
    known = speech_like_motion(2, 10)
    single = multi_view(KnownMotion(vae, known), vae, 1).step(FEATURES[0, :2], started(CONFIG, 2))
    found = multi_view(KnownMotion(vae, known), vae, num_views).step(FEATURES[0, :2], started(CONFIG, 2))
    assert found.shape == (2, 2, 32)
    lost = ((single - known[:, -2:]) * SIZES).norm(dim=-1).max()  # by the VAE alone
    assert ((found - known[:, -2:]) * SIZES).norm(dim=-1).max() < lost + 2e-3


def test_one_view_gone_wrong_does_not_show(vae: MotionVae) -> None:
    known = speech_like_motion(2, 10)

    def spoil_last_view(seen: Tensor) -> Tensor:
        spoiled = seen.clone()
        spoiled[-2:, :, :16] += 4.0
        return spoiled

    right = multi_view(KnownMotion(vae, known), vae, 3).step(FEATURES[0, :2], started(CONFIG, 2))
    found = multi_view(KnownMotion(vae, known, spoil_last_view), vae, 3).step(FEATURES[0, :2], started(CONFIG, 2))
    assert ((found - right) * SIZES).norm(dim=-1).max() < 5e-3
