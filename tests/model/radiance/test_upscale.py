"""512 px out of 256: the network against plain enlargement, its training, and the renderer and command that use it."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.errors import CheckpointError, InputError
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.radiance.upscale import ASSET, UpscaleConfig, UpscaleNet, Upscaler, enlarge
from model.training.upscale import Pairs, UpscaleTraining, drawn_frames, finer, fit
from stream_server.cli import main

pytestmark = pytest.mark.usefixtures("weights_once")
MOUTH_BOX = (0.35, 0.5, 0.65, 0.74)


def psnr(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return -10 * float(np.log10(np.mean((found - wanted) ** 2)))


def test_shipped_weights_beat_plain_enlargement_on_frames_they_have_not_seen() -> None:
    assert ASSET.stat().st_size <= 60_000
    avatar, upscaler = load_avatar(), Upscaler.load()
    small, fine = AvatarRenderer(avatar, size_px=256), AvatarRenderer(finer(avatar), size_px=512)
    for frame in drawn_frames(2, seed=777):
        head, wanted = small.render_head(*frame).copy(), fine.render_head(*frame)
        plain = enlarge(torch.from_numpy(head).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
        assert psnr(upscaler(head), wanted) > psnr(plain, wanted) + 0.8


def test_color_stays_within_alpha_and_nothing_stays_nothing() -> None:
    upscaler = Upscaler.load()
    head = np.random.default_rng(0).uniform(0, 1, (16, 16, 4)).astype(np.float32)
    head[..., :3] *= head[..., 3:]
    large = upscaler(head)
    assert large.shape == (32, 32, 4) and large.flags.c_contiguous
    assert large.min() >= 0 and large.max() <= 1 and (large[..., :3] <= large[..., 3:]).all()
    assert upscaler(np.zeros((16, 16, 4), np.float32)).max() < 0.02
    np.testing.assert_array_equal(upscaler(head), large)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="4"):
        Upscaler.load()(np.zeros(shape, np.float32))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone"):
        Upscaler.load(tmp_path / "gone.safetensors")


def test_training_starts_at_plain_enlargement_and_ends_better() -> None:
    torch.manual_seed(0)
    small = torch.rand(4, 4, 256, 256)
    large = 0.7 * enlarge(small)
    pairs = Pairs(small.half(), large.half())
    net = UpscaleNet(UpscaleConfig(width=8, layers=1))
    torch.testing.assert_close(net(small[:1]), enlarge(small[:1]))
    config = UpscaleTraining(net=UpscaleConfig(width=8, layers=1), frames=4, steps=60, batch=4, patch_px=16)
    trained, errors = fit(config, pairs, MOUTH_BOX)
    assert np.mean(errors[-10:]) < 0.3 * np.mean(errors[:5])
    again, _ = fit(config, pairs, MOUTH_BOX)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_a_renderer_enlarges_the_head_alone() -> None:
    avatar, pose, rest = load_avatar(), HeadPose(yaw_deg=5), np.zeros(32, np.float32)
    direct = AvatarRenderer(avatar, size_px=512)
    quick = AvatarRenderer(avatar, size_px=512, upscaler=Upscaler.load())
    assert quick.render_head(rest, pose).shape == (512, 512, 4)
    a, b = direct.render(rest, pose).copy(), quick.render(rest, pose)
    assert a.shape == b.shape == (768, 512)
    np.testing.assert_array_equal(a[:20, :20], b[:20, :20])  # background
    assert 0.05 < np.abs(a.astype(float) - b).mean() < 2.0
    assert quick.like(avatar).upscaler is quick.upscaler


def test_render_takes_the_network_at_512_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = tmp_path / "a.wav"
    with wave.open(str(audio), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(2 * 1280))
    pictures = []
    for heads in ("network", "direct"):
        out = tmp_path / f"{heads}.mp4"
        assert main(["render", "--audio", str(audio), "--out", str(out), "--size", "512", "--heads", heads]) == 0
        with av.open(str(out)) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="gray").astype(float))
    assert pictures[0].shape == (512, 512) and 0 < np.abs(pictures[0] - pictures[1]).mean() < 3
    assert main(["render", "--audio", str(audio), "--out", str(tmp_path / "o.mp4"), "--heads", "network"]) == 2
    assert "makes 512 px, got --size 256" in capsys.readouterr().err
