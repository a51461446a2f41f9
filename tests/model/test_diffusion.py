"""Schedule, sampler, U-Net and the streaming generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.checks import KernelInputError
from kernels.temporal_attention import temporal_attention
from model.diffusion.generator import MotionGenerator
from model.diffusion.noise_schedule import add_noise, cosine_alpha_bar
from model.diffusion.samplers import ddim, follow_flow, frame_noise, sample
from model.diffusion.temporal_block import Attention
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import ConfigError

SMALL = UNetConfig(channels=(16, 24, 32), condition_size=16, context_size=16, num_heads=2)


def small_unet() -> TemporalUNet:
    torch.manual_seed(0)
    unet = TemporalUNet(SMALL)
    for parameter in unet.parameters():  # the zero-initialised ends would hide mistakes
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return unet.eval()


def features(sessions: int, hops: int) -> Tensor:
    return torch.randn(sessions, hops, 4, 256, generator=torch.Generator().manual_seed(1))


def run(generator: MotionGenerator, sound: Tensor, seeds: list[int]) -> Tensor:
    states = [generator.new_state(seed) for seed in seeds]
    return torch.cat([generator.step(sound[:, hop], states)[:, -2:] for hop in range(sound.shape[1])], 1)


def test_schedule_falls_from_clean_to_noise() -> None:
    alpha_bar = cosine_alpha_bar(50)
    assert alpha_bar[0] == 1.0 and alpha_bar[-1] < 1e-3
    assert (alpha_bar.diff() < 0).all()
    clean, noise = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    torch.testing.assert_close(add_noise(clean, noise, alpha_bar[[0, 0]]), clean)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 50])
def test_ddim_with_a_perfect_denoiser_finds_the_answer(num_steps: int) -> None:
    answer = torch.randn(2, 16, 16)
    found = ddim(lambda noisy, time, after: answer, torch.randn(2, 16, 16), num_steps=num_steps, num_timesteps=50)
    torch.testing.assert_close(found, answer)


def test_ddim_follows_the_trajectory_of_a_gaussian() -> None:
    """For data N(0, s^2) the ideal denoiser is linear and the ODE keeps quantiles: noise e ends at about s e."""
    alpha_bar, spread = cosine_alpha_bar(50), 0.5

    def denoise(noisy: Tensor, time: Tensor, after: Tensor) -> Tensor:
        a = float(alpha_bar[round(float(time[0]) * 50)])
        return noisy * (a**0.5 * spread**2 / (a * spread**2 + 1 - a))

    noise = torch.randn(4, 16, 16)
    found = ddim(denoise, noise, num_steps=50, num_timesteps=50)
    assert torch.corrcoef(torch.stack([found.flatten(), noise.flatten()]))[0, 1] > 0.999
    assert float(found.std()) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("num_steps", [1, 2, 4, 50])
def test_a_flow_with_a_perfect_denoiser_finds_the_answer(num_steps: int) -> None:
    answer = torch.randn(2, 16, 16)
    found = follow_flow(
        lambda noisy, time, after: answer, torch.randn(2, 16, 16), num_steps=num_steps, num_timesteps=50
    )
    torch.testing.assert_close(found, answer)


def test_a_flow_keeps_the_quantiles_of_a_gaussian_and_a_flow_map_does_in_one_jump() -> None:
    """For data N(0, s^2) the flow's map from time t to time 0 is x s / sqrt((1 - t)^2 s^2 + t^2)."""
    spread, noise = 0.5, torch.randn(4, 16, 16)

    def denoise(noisy: Tensor, time: Tensor, after: Tensor) -> Tensor:
        t = float(time[0])
        return noisy * (1 - t) * spread**2 / ((1 - t) ** 2 * spread**2 + t**2)

    def jump(noisy: Tensor, time: Tensor, after: Tensor) -> Tensor:
        size = [((1 - float(x[0])) ** 2 * spread**2 + float(x[0]) ** 2) ** 0.5 for x in (time, after)]
        kept = float(after[0] / time[0])
        return (noisy * size[1] / size[0] - kept * noisy) / (1 - kept)

    teacher = follow_flow(denoise, noise, num_steps=50, num_timesteps=50)
    torch.testing.assert_close(teacher, spread * noise, atol=0.1, rtol=0.05)
    for num_steps in (1, 2, 4):
        student = follow_flow(jump, noise, num_steps=num_steps, num_timesteps=50)
        torch.testing.assert_close(student, spread * noise, atol=1e-5, rtol=1e-5)


def test_the_deterministic_twin_looks_at_no_noise() -> None:
    def denoise(noisy: Tensor, time: Tensor, after: Tensor) -> Tensor:
        assert not noisy.any() and (time == 1).all()
        return torch.full_like(noisy, 2.0)

    assert (sample("mean", denoise, torch.randn(2, 3, 4), num_steps=4, num_timesteps=50) == 2.0).all()


@pytest.mark.parametrize("committed", [0, 4, 8])
def test_any_length_of_past_streams(committed: int) -> None:
    torch.manual_seed(0)
    config = replace(SMALL, committed_frames=committed, window_frames=committed + 8, process="flow-map")
    generator = MotionGenerator(TemporalUNet(config), torch.zeros(16), temperature=1.0)
    made = run(generator, features(2, 5), [1, 2])
    assert made.shape == (2, 10, 16) and made.isfinite().all()


def test_a_window_that_cannot_be_halved_or_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 4 and at least 12, got 14"):
        replace(SMALL, window_frames=14)
    with pytest.raises(ConfigError, match="at least 12, got 8"):
        replace(SMALL, window_frames=8)


def test_pose_and_style_reach_the_output_once_trained() -> None:
    torch.manual_seed(0)
    unet = TemporalUNet(replace(SMALL, pose_size=3, styles=3, process="flow-map")).eval()
    args = (torch.randn(1, 16, 16), torch.ones(1), torch.zeros(1, 16, 16), torch.zeros(1, 16), torch.randn(1, 16, 256))
    heard = torch.ones(1, 16, dtype=torch.bool)
    base = unet(*args, heard)
    more = {"pose": torch.ones(1, 3), "style": torch.tensor([2]), "target_time": torch.full((1,), 0.5)}
    for name, value in more.items():  # a new condition changes nothing until it is trained
        torch.testing.assert_close(unet(*args, heard, **{name: value}), base)
    for parameter in unet.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    base = unet(*args, heard)
    for name, value in more.items():
        assert (unet(*args, heard, **{name: value}) - base).abs().max() > 1e-4


def test_steps_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps must be 1\.\.50, got 0"):
        ddim(lambda noisy, time, after: noisy, torch.zeros(1, 1, 1), num_steps=0, num_timesteps=50)


def test_noise_depends_on_seed_and_absolute_frame_only() -> None:
    long = frame_noise(7, -8, 40, 16)
    np.testing.assert_array_equal(frame_noise(7, 4, 6, 16), long[12:18])
    assert not np.array_equal(frame_noise(8, -8, 40, 16), long)
    assert abs(float(frame_noise(3, 0, 4000, 16).std()) - 1.0) < 0.02


def test_a_session_does_not_feel_who_shares_its_batch() -> None:
    generator = MotionGenerator(small_unet(), torch.zeros(16), num_steps=2, temperature=1.0)
    sound = features(3, 6)
    together = run(generator, sound, [5, 6, 7])
    for row, seed in enumerate([5, 6, 7]):
        alone = run(generator, sound[row : row + 1], [seed])
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)


def test_later_sound_changes_no_earlier_motion_and_sound_matters() -> None:
    generator = MotionGenerator(small_unet(), torch.zeros(16))
    sound = features(1, 6)
    changed = sound.clone()
    changed[:, 4:] += 1.0
    before, after = run(generator, sound, [0]), run(generator, changed, [0])
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert (before[:, 8:] - after[:, 8:]).abs().max() > 1e-3


def test_temperature_zero_ignores_the_seed_and_one_does_not() -> None:
    sound = features(1, 3)
    for temperature, same in ((0.0, True), (1.0, False)):
        generator = MotionGenerator(small_unet(), torch.zeros(16), temperature=temperature)
        assert torch.equal(run(generator, sound, [1]), run(generator, sound, [2])) is same


def test_committed_latents_reach_the_output() -> None:
    unet = small_unet()
    noisy, audio = torch.zeros(1, 16, 16), torch.zeros(1, 16, 256)
    heard, mask = torch.ones(1, 16, dtype=torch.bool), torch.zeros(1, 16)
    mask[:, :8] = 1.0
    prefix = torch.zeros(1, 16, 16)
    base = unet(noisy, torch.ones(1), prefix, mask, audio, heard)
    prefix[:, 7] = 1.0
    assert (unet(noisy, torch.ones(1), prefix, mask, audio, heard) - base).abs().max() > 1e-4


def test_sound_not_heard_is_not_read() -> None:
    unet = small_unet()
    noisy, prefix, mask = torch.zeros(1, 16, 16), torch.zeros(1, 16, 16), torch.zeros(1, 16)
    heard = torch.zeros(1, 16, dtype=torch.bool)
    heard[:, :12] = True
    audio = torch.randn(1, 16, 256)
    base = unet(noisy, torch.ones(1), prefix, mask, audio, heard)
    audio[:, 12:] = float("nan")
    torch.testing.assert_close(unet(noisy, torch.ones(1), prefix, mask, audio.nan_to_num(50.0), heard), base)


@pytest.mark.parametrize("frames", [1, 7, 16, 63])
def test_attention_equals_the_formula_and_masks(frames: int) -> None:
    q, k, v = torch.randn(3, 2, 4, frames, 8)
    mask = torch.rand(2, frames) < 0.7
    mask[1] = False
    scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask[:, None, None], -1e9)
    wanted = scores.softmax(-1) @ v
    out = temporal_attention(q, k, v, mask=mask)
    torch.testing.assert_close(out[0], wanted[0] if mask[0].any() else torch.zeros_like(out[0]), atol=1e-5, rtol=1e-4)
    assert torch.equal(out[1], torch.zeros_like(out[1]))


@pytest.mark.parametrize("context", [None, 20])
def test_an_attention_block_equals_its_modules_one_by_one(context: int | None) -> None:
    torch.manual_seed(0)
    block = Attention(24, 2, context)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, 7, 24)
    audio = None if context is None else torch.randn(3, 5, context)
    mask = None if context is None else torch.rand(3, 5) < 0.7
    h = block.norm(x)
    key, value = block.key_value(h if audio is None else audio).chunk(2, -1)
    q, k, v = (part.unflatten(-1, (2, 12)).transpose(1, 2) for part in (block.query(h), key, value))
    wanted = x + block.out(temporal_attention(q, k, v, mask=mask).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x, audio, mask), wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_net_takes_other_batches() -> None:
    unet = small_unet()
    inputs = [torch.randn(4, 16, 16), torch.rand(4), torch.randn(4, 16, 16), torch.ones(4, 16), torch.randn(4, 16, 256)]
    inputs.append(torch.arange(16).expand(4, -1) < torch.tensor([[16], [12], [3], [0]]))
    with torch.inference_mode():
        traced = torch.jit.trace(unet, tuple(tensor[:2] for tensor in inputs))
        torch.testing.assert_close(traced(*inputs), unet(*inputs), atol=1e-5, rtol=1e-5)


def test_attention_refuses_shapes_that_disagree() -> None:
    with pytest.raises(KernelInputError, match=r"\(1, 2, 3, 4\)"):
        temporal_attention(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 3, 5))
