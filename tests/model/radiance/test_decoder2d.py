"""The 2-D decoder: premultiplied pictures that follow motion and pose, exact resumption, and a camera it lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.avatar import load_avatar
from model.data.capture import CaptureFrames
from model.errors import CheckpointError, ConfigError, InputError
from model.evaluation.decoder2d import DecoderRenderer
from model.radiance.camera import HeadPose, cam_to_canonical, head_matrix
from model.radiance.decoder2d import (
    KIND,
    Decoder2d,
    Decoder2dConfig,
    field_multiply_adds,
    load_decoder,
    multiply_adds,
    save_decoder,
)
from model.training.decoder2d import Decoder2dTraining, _Samples, fit
from model.training.run import Run, RunConfig

SMALL = Decoder2dConfig(hidden=16, channels=(8, 8))  # 32 px


def frames(count: int = 6, size: int = 32) -> CaptureFrames:
    """A disc whose mouth opens with the first code and which moves with the yaw."""
    rng = np.random.default_rng(0)
    motion = np.zeros((count, 32), np.float32)
    motion[:, 0] = rng.normal(size=count)
    rotvec = np.zeros((count, 3), np.float32)
    rotvec[:, 1] = np.linspace(-0.3, 0.3, count)
    rgba = np.zeros((count, size, size, 4), np.uint8)
    y, x = np.mgrid[:size, :size]
    for i in range(count):
        middle = size / 2 + 20 * rotvec[i, 1]
        rgba[i][(x - middle) ** 2 + (y - size / 2) ** 2 < 100] = (180, 180, 90, 255)
        rgba[i][18 : 20 + round(abs(motion[i, 0]) * 2), 13:19] = (20, 10, 10, 255)
    box = np.tile(np.array([12, 16, 20, 26], np.float32), (count, 1))
    return CaptureFrames(
        size_px=size,
        rgba=rgba,
        head=rgba[..., 3],
        motion=motion,
        rotvec=rotvec,
        head_to_world=np.tile(np.eye(4), (count, 1, 1)),
        cam_to_world=np.tile(np.eye(4), (count, 1, 1)),
        mouth_box=box,
        eye_boxes=np.stack([box - 8, box - 8], 1),
        kind=("",) * count,
        files=("",) * count,
    )


def training(steps: int) -> Decoder2dTraining:
    run = RunConfig(steps=steps, batch=2, learning_rate=5e-3, warmup_steps=2, weight_decay=0.0, save_every=5)
    return Decoder2dTraining(net=SMALL, run=run)


class Interrupted(_Samples):
    """Stops after so many batches, as Ctrl-C would."""

    left = 12

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().draw(count, generator)


def trained(folder: Path, steps: int, samples: type[_Samples] = _Samples) -> tuple[Run, Decoder2d]:
    config = training(steps)
    torch.manual_seed(0)
    net, drawn = Decoder2d(config.net), samples(frames(), config)
    net.start_from(drawn.mean())
    run = Run(folder, KIND, net, config.run)
    fit(run, net, drawn)
    return run, net


def test_pictures_are_premultiplied_and_follow_motion_and_pose() -> None:
    torch.manual_seed(0)
    net = Decoder2d(SMALL)
    motion, rotvec = torch.zeros(3, 32), torch.zeros(3, 3)
    motion[1, 0], rotvec[2, 1] = 2.0, 0.3
    made = net(motion, rotvec)
    assert made.shape == (3, 4, 32, 32)
    assert (made[:, :3] <= made[:, 3:]).all() and (made >= 0).all() and (made <= 1).all()
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    torch.testing.assert_close(net(motion[1:2], rotvec[1:2]), made[1:2])  # whatever shares the batch


def test_it_starts_near_the_mean_picture() -> None:
    net = Decoder2d(SMALL)
    for block in net.blocks:
        torch.nn.init.zeros_(block.second.weight)
    torch.nn.init.zeros_(net.last.bias)
    for block in net.blocks:
        torch.nn.init.zeros_(block.second.bias)
    mean = _Samples(frames(), training(1)).mean()
    net.start_from(mean)
    torch.testing.assert_close(net(torch.zeros(1, 32), torch.zeros(1, 3))[0], mean, rtol=0, atol=0.02)


def test_multiply_adds_are_those_of_its_layers() -> None:
    linear = 41 * 16 + 16 * 16 + 16 * 8 * 64 + 16 * 32
    convolutions = 16 * 16 * 9 * (8 * 8 + 8 * 8 + 8 * 16)
    assert multiply_adds(Decoder2d(SMALL)) == linear + convolutions
    assert field_multiply_adds(10, channels=16, hidden=64) == 10 * (48 * 64 + 64 * 64 + 4 * 64)


def test_training_lowers_the_error_and_an_interrupted_one_ends_alike(tmp_path: Path) -> None:
    whole, net = trained(tmp_path / "whole", 180)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", 180, Interrupted)
    parts, _ = trained(tmp_path / "parts", 180)
    assert parts.step == whole.step == 180
    for key, value in whole.ema.items():
        torch.testing.assert_close(parts.ema[key], value, rtol=0, atol=0)
    samples = _Samples(frames(), training(180))
    wanted = samples.pictures.float() / 255
    with torch.inference_mode():
        error = float((net(samples.motion, samples.rotvec) - wanted).square().mean())
    assert error < 0.5 * float((samples.mean() - wanted).square().mean())  # it follows the frames, not their mean
    assert (tmp_path / "parts" / "curve.jsonl").read_text().count("psnr") == 8


def test_weights_come_back_and_foreign_files_are_refused(tmp_path: Path) -> None:
    net = Decoder2d(SMALL)
    save_decoder(tmp_path / "d.safetensors", net, {})
    loaded, digest = load_decoder(tmp_path / "d.safetensors")
    assert loaded.config == SMALL and len(digest) > 8
    torch.testing.assert_close(loaded.base, net.base, rtol=1e-3, atol=1e-3)
    with pytest.raises(CheckpointError):
        load_decoder(tmp_path / "nothing.safetensors")
    with pytest.raises(ConfigError, match="two levels"):
        Decoder2dConfig(channels=(8,))


def test_a_moved_camera_is_met_by_a_turned_head() -> None:
    torch.manual_seed(0)
    avatar = load_avatar(None)
    renderer = DecoderRenderer(avatar, Decoder2d(SMALL).eval(), size_px=32)
    motion, config = np.zeros(32, np.float32), avatar.config
    turned = HeadPose(yaw_deg=10).rotation_vector().astype(np.float32)
    head = head_matrix(turned, config.neck)
    still = cam_to_canonical(head, config.camera.matrix(), config.space)
    same = renderer.render_head(motion, HeadPose(yaw_deg=10))
    np.testing.assert_allclose(renderer.render_head_seen_by(motion, turned, still), same, atol=1e-6)
    # head and camera moved together by one rigid motion: the same picture, from a rotation that it was not told
    rigid = head_matrix(np.array([0.0, -0.25, 0.0]), config.neck)
    alike = cam_to_canonical(rigid @ head, rigid @ config.camera.matrix(), config.space)
    np.testing.assert_allclose(renderer.render_head_seen_by(motion, turned, alike), same, atol=1e-5)
    shift = np.eye(4)
    shift[1, 3] = 2.0  # the camera goes up: the same head, lower in the picture
    up = cam_to_canonical(head, shift @ config.camera.matrix(), config.space)
    lower = renderer.render_head_seen_by(motion, turned, up)
    pixels = config.camera.intrinsics(32)[1] * 2.0 / 72  # 1.7, about: the head's centre is 72 units away or so
    rows = np.arange(4, 26)
    between = same[rows] * (1 - pixels % 1) + same[rows - 1] * (pixels % 1)  # bilinear
    np.testing.assert_allclose(lower[rows + int(pixels)], between, atol=0.05)
    assert np.abs(lower - same).max() > 0.1
    with pytest.raises(InputError, match="no other lens"):
        renderer.render_head_seen_by(motion, turned, still, np.ones(4))
    with pytest.raises(InputError, match="paints 32 px, asked for 256"):
        DecoderRenderer(avatar, Decoder2d(SMALL))
