"""The serving form of the U-Net against the network it was folded from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.backend import Backend
from model.diffusion.generator import MotionGenerator
from model.diffusion.hop_unet import HopUNet
from model.diffusion.unet import Process, TemporalUNet, UNetConfig


def shaken_unet(seed: int = 0, **options: object) -> TemporalUNet:
    """A small network with no layer at zero: fresh ones begin with many, behind which errors would hide."""
    config = UNetConfig(channels=(16, 24, 32), condition_size=16, context_size=20, num_heads=2, **options)  # type: ignore[arg-type]
    unet = TemporalUNet(config).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.2)
    return unet


def window(unet: TemporalUNet, batch: int, seed: int) -> dict[str, Tensor | None]:
    c, random = unet.config, torch.Generator().manual_seed(seed)
    T = c.window_frames
    frames = torch.arange(T)
    return {
        "noisy": torch.randn(batch, T, c.latent_size, generator=random),
        "noise_time": torch.rand(batch, generator=random),
        "prefix": torch.randn(batch, T, c.latent_size, generator=random) * (frames < c.committed_frames)[:, None],
        "prefix_mask": (frames < c.committed_frames).float().expand(batch, T),
        "audio": torch.randn(batch, T, c.feature_size, generator=random),
        "audio_mask": torch.rand(batch, T, generator=random) > 0.3,
        "target_time": torch.rand(batch, generator=random),
        "temperature": torch.rand(batch, generator=random),
        "pose": torch.randn(batch, 3, generator=random) if c.pose_size else None,
        "style": torch.randint(3, (batch,), generator=random) if c.styles else None,
    }


@torch.inference_mode()
def both(unet: TemporalUNet, w: dict[str, Tensor | None], backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    folded = HopUNet(unet, backend=backend).hop(w["prefix"], w["prefix_mask"], w["audio"], w["audio_mask"])  # type: ignore[arg-type]
    late = {name: w[name] for name in ("noisy", "noise_time", "target_time", "temperature", "pose", "style")}
    return unet(**w), folded.denoise(**late)  # type: ignore[arg-type]


def assert_equal(got: tuple[Tensor, Tensor]) -> None:
    expected, folded = got
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=2e-5)


@given(
    batch=st.integers(1, 4),
    process=st.sampled_from(["flow-map", "flow", "ddpm"]),
    pose_size=st.sampled_from([0, 3]),
    styles=st.sampled_from([0, 3]),
    self_attention=st.booleans(),
    mel_branch=st.booleans(),
    backend=st.sampled_from(["reference", "auto"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_folded_is_the_network(batch: int, process: Process, backend: Backend, seed: int, **options: object) -> None:
    unet = shaken_unet(seed, process=process, **options)
    assert_equal(both(unet, window(unet, batch, seed), backend))


def test_a_window_in_which_nothing_was_heard() -> None:
    unet = shaken_unet()
    w = window(unet, 2, 1)
    assert w["audio_mask"] is not None
    w["audio_mask"][1] = False
    assert_equal(both(unet, w))


@torch.inference_mode()
def test_steps_of_a_hop_do_not_change_each_other() -> None:
    unet = shaken_unet(process="flow-map")
    w = window(unet, 2, 1)
    hop = HopUNet(unet).hop(w["prefix"], w["prefix_mask"], w["audio"], w["audio_mask"])  # type: ignore[arg-type]
    assert w["noisy"] is not None and w["noise_time"] is not None
    first = hop.denoise(w["noisy"], w["noise_time"])
    hop.denoise(2 * w["noisy"], 0.5 * w["noise_time"])
    assert torch.equal(hop.denoise(w["noisy"], w["noise_time"]), first)


def test_a_generator_follows_its_networks_training() -> None:
    unet = shaken_unet(process="flow-map")
    generator = MotionGenerator(unet, torch.zeros(16))
    features = torch.randn(1, 4, 256)
    before = generator.step(features, [generator.new_state(1)])
    with torch.no_grad():
        assert unet.direct.bias is not None
        unet.direct.bias.add_(1.0)
    after = generator.step(features, [generator.new_state(1)])
    assert (after - before)[0, -2:].abs().min() > 0.5
    assert after[0, :-2] == pytest.approx(before[0, :-2])
