"""The torso layer: still at the start, and what is trained is what is served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from kernels.backend import Backend
from kernels.layer import warp_layer
from kernels.ray_march import FieldArrays, RayMarcher
from model.avatar import DEFAULT_AVATAR, load_avatar
from model.errors import ConfigError
from model.radiance import serving
from model.radiance.camera import HeadPose
from model.radiance.compositor import Background, PictureBackground, compose_underlay
from model.radiance.serving import AvatarRenderer
from model.radiance.torso import POSE_SIZE, TorsoLayer

SIDE = 16


def random_torso(bases: int = POSE_SIZE) -> TorsoLayer:
    alpha = torch.rand(SIDE, SIDE, 1, generator=torch.Generator().manual_seed(1))
    color = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(2))
    return TorsoLayer(torch.cat([color * alpha, alpha], 2), bases)


def all_pixels() -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.arange(SIDE)
    return places.repeat_interleave(SIDE), places.repeat(SIDE)


def test_a_torso_that_has_learned_nothing_stays_still() -> None:
    rows, columns = all_pixels()
    torso = random_torso()
    moved = torso(rows, columns, poses=torch.randn(len(rows), POSE_SIZE))
    torch.testing.assert_close(moved, random_torso(0)(rows, columns), atol=1e-5, rtol=0)


def test_training_reaches_the_mix() -> None:
    rows, columns = all_pixels()
    torso = random_torso()
    torso(rows, columns, poses=torch.ones(len(rows), POSE_SIZE)).square().sum().backward()
    assert torso.mix.grad is not None
    assert torso.mix.grad.abs().sum() > 0


def test_shoulders_that_follow_a_turned_head_are_brought_to_rest() -> None:
    torso, turned = random_torso(), torch.eye(POSE_SIZE)[:2]
    assert torso.swing(turned).item() == 0
    with torch.no_grad():
        torso.mix.copy_(torch.eye(POSE_SIZE) * 0.2)
    first = torso.swing(turned)
    first.backward()
    assert torso.mix.grad is not None
    with torch.no_grad():
        torso.mix.sub_(torso.mix.grad * 0.3)
    assert 0 < torso.swing(turned).item() < first.item()


def test_a_pixel_that_is_kept_clear_is_not_trained() -> None:
    rows, columns = all_pixels()
    torso, where = random_torso(0), torch.zeros(SIDE, SIDE, dtype=torch.bool)
    where[:4] = True
    torso.keep_clear(where)
    torso(rows, columns).sum().backward()
    gradient = torso.rgba.grad
    assert gradient is not None
    assert float(gradient[:4].abs().max()) == 0 and float(gradient[4:].abs().min()) > 0


def test_the_served_layer_is_the_trained_one() -> None:
    rows, columns = all_pixels()
    torso = random_torso()
    pose = torch.linspace(-1, 1, POSE_SIZE)
    with torch.no_grad():
        torso.mix.copy_(torch.eye(POSE_SIZE) * 0.2)
        trained = torso(rows, columns, poses=pose.expand(len(rows), -1)).view(SIDE, SIDE, 4).numpy()
        grid = torch.einsum("k,kcyx->yxc", torso.mix @ pose, torso.basis).contiguous().numpy()
    served = warp_layer(torso.picture(), grid, np.zeros((SIDE, SIDE, 3), np.uint8))
    assert np.abs(served - trained[..., :3] * 255).max() <= 2


def test_a_wrong_number_of_bases_is_named() -> None:
    with pytest.raises(ConfigError, match="got 4"):
        random_torso(4)


def test_a_picture_stands_behind_the_torso() -> None:
    nothing = np.zeros((8, 8, 4), np.uint8)
    wide = np.zeros((8, 12, 3), np.uint8)
    wide[:, 2:10] = 200
    np.testing.assert_array_equal(compose_underlay(nothing, PictureBackground(wide), 8), 200)
    even = PictureBackground(np.full((9, 9, 3), 77, np.uint8), blur_share=0.1)
    flat = Background(top=(77, 77, 77), bottom=(77, 77, 77))
    np.testing.assert_allclose(compose_underlay(nothing, even, 8), compose_underlay(nothing, flat, 8), atol=1)


def test_a_head_from_triton_has_its_torso_and_colour_from_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU; here the marcher's other form stands in for it."""
    asked: list[str] = []

    def marcher(field: FieldArrays, *, backend: Backend, **options: Any) -> RayMarcher:
        asked.append(backend)
        return RayMarcher(replace(field, matter=None), **options)  # which is not for Triton

    avatar = load_avatar(DEFAULT_AVATAR)
    monkeypatch.setattr(serving, "RayMarcher", marcher)
    renderer = AvatarRenderer(avatar, size_px=32, backend="triton")
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
    other = renderer.like(avatar)
    assert asked == ["triton", "triton"]
    pose = HeadPose(yaw_deg=5.0)
    wanted = AvatarRenderer(avatar, size_px=32, backend="cpu").render(motion, pose)
    for made in (renderer, other):
        np.testing.assert_array_equal(made.render(motion, pose), wanted)


def test_a_picture_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 4\)"):
        PictureBackground(np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigError, match=r"got 0\.5"):
        PictureBackground(np.zeros((4, 4, 3), np.uint8), blur_share=0.5)
