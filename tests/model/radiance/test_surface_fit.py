"""What happens before the first step along rays: colors go to the surface, the skull to the filmed outline."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.data.capture import CaptureFrames
from model.errors import ConfigError
from model.radiance.camera import CameraConfig, CanonicalSpace
from model.radiance.config import FieldConfig
from model.training import outline_start
from model.training.avatar import AvatarTraining, AvatarTrainingConfig
from model.training.avatar_step import LossWeights
from model.training.outline_start import (
    ANGLES_DEG,
    ASIDE_CM,
    CENTRE_CM,
    GROWN,
    _broad,
    fill_torso,
    outline_pairs,
    outline_tops,
)
from model.training.surface_fit import SurfaceFitConfig, color_error, fit_surface, look_up, map_colors
from model.training.warm_start import FaceDisplacement

FIT = SurfaceFitConfig(steps=40, frames=8, rays=150, frames_per_step=4)


@pytest.fixture
def training(tiny_field_config: FieldConfig, tiny_frames: CaptureFrames, camera: CameraConfig) -> AvatarTraining:
    """Trained far enough to show a solid disc."""
    config = AvatarTrainingConfig(
        steps=70,
        size_px=32,
        field=dataclasses.replace(tiny_field_config, step=0.06),
        frames_per_step=4,
        samples_per_step=4000,
        max_rays=256,
        grid_size=16,
        prune_start=20,
        prune_every=10,
        warmup_steps=5,
        losses=LossWeights(depth_spread=0.01, head_opacity=1.0),
    )
    made = AvatarTraining(config, tiny_frames, camera)
    for _ in range(70):
        made.train_step()
    return made


def recolored(training: AvatarTraining) -> None:
    """Another person: red and blue exchanged."""
    sampler = training.samplers[32]
    sampler.rgba = sampler.rgba[..., [2, 1, 0, 3]].contiguous()


def test_colors_of_another_person_are_taken_over_and_matter_stays(training: AvatarTraining) -> None:
    recolored(training)
    generator = torch.Generator().manual_seed(0)
    kept = look_up(training, FIT, generator)
    before, after = fit_surface(training, FIT)
    assert after < 0.3 * before
    chosen = torch.tensor([kept[0].frame])
    conditions = training.field.frame_conditions(training.motion[chosen], training.rotvec[chosen])
    with torch.no_grad():
        raw = training.field.outputs(training.field.plane_features(kept[0].points), [len(kept[0].points)], conditions)
    assert float((raw[:, 0] - kept[0].raw[:, 0]).abs().mean()) < 0.5
    assert training.step == 70 and training.occupancy.fraction() > 0


def test_an_affine_change_of_color_is_undone_at_once(training: AvatarTraining) -> None:
    surfaces = look_up(training, FIT, torch.Generator().manual_seed(0))
    field, weight, bias = training.field, training.field.layer3.weight, training.field.layer3.bias
    shown = [s._replace(wanted=_shown(training, s)) for s in surfaces]
    with torch.no_grad():
        weight[1:] = weight[1:] * 0.6
        bias[1:] = bias[1:] * 0.6 + torch.tensor([0.4, -0.3, 0.2])
    changed = [s._replace(raw=_raw(training, s)) for s in shown]
    before = color_error(training, changed)
    map_colors(field, changed)
    assert color_error(training, changed) < 0.05 * before


def test_a_field_that_shows_nothing_is_left_alone(training: AvatarTraining) -> None:
    with torch.no_grad():
        training.field.layer3.bias[0] = -50
    planes = training.field.planes.clone()
    assert fit_surface(training, FIT) == (0.0, 0.0)
    assert torch.equal(training.field.planes, planes)
    with pytest.raises(ConfigError, match="must not be negative"):
        SurfaceFitConfig(steps=-1)


@pytest.fixture
def untrained(
    tiny_field_config: FieldConfig, tiny_frames: CaptureFrames, camera: CameraConfig, monkeypatch: pytest.MonkeyPatch
) -> AvatarTraining:
    """At step 0; the starting head is a disc of 8 pixels, the filmed one of 9."""
    made = AvatarTraining(AvatarTrainingConfig(steps=1, size_px=32, field=tiny_field_config), tiny_frames, camera)
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    disc = ((x - 16) ** 2 + (y - 14) ** 2 < 64).float()
    monkeypatch.setattr(outline_start, "starting_cover", lambda *_: disc)
    return made


def test_a_larger_head_is_found_at_its_own_outline(untrained: AvatarTraining) -> None:
    """One pixel of 32 is 1.2 cm at the head: 0.07 canonical units."""
    new, old = outline_pairs(untrained, untrained.occupancy)
    half = len(new) // 2
    assert len(ANGLES_DEG) < half <= len(ANGLES_DEG) + 2 * len(ASIDE_CM)
    centre, skull = untrained.space.from_head(np.array(CENTRE_CM)), slice(len(ANGLES_DEG))
    further = np.linalg.norm(new[skull] - centre, axis=1) - np.linalg.norm(old[skull] - centre, axis=1)
    assert 0.05 < further.mean() < 0.14
    assert np.allclose(old[:half, :2], old[half:, :2]) and (old[half:, 2] < old[:half, 2]).all()
    columns, new_tops, old_tops = outline_tops(untrained, untrained.occupancy)
    assert (np.diff(columns) > 0).all()
    assert 0.03 < (new_tops - old_tops)[np.abs(columns) < 0.2].mean() < 0.14


def test_a_lifted_cube_gives_the_same_outline(
    untrained: AvatarTraining, tiny_field_config: FieldConfig, tiny_frames: CaptureFrames, camera: CameraConfig
) -> None:
    lifted = CanonicalSpace(centre=(0.0, 4.4, -1.0))
    other = AvatarTraining(untrained.config, tiny_frames, camera, space=lifted)
    for first, second in zip(
        outline_pairs(untrained, untrained.occupancy), outline_pairs(other, other.occupancy), strict=True
    ):
        np.testing.assert_allclose(first - second, [[0, 0.2, 0]] * len(first), atol=1e-4)


def test_ears_and_neck_are_paired_at_their_own_heights(
    untrained: AvatarTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A neck of 8 pixels that was filmed with 10: half of the difference, and what the start is made larger by."""
    sampler = untrained.samplers[32]
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    filmed, start = (((x - 16).abs() < half) & (y < 31) for half in (5, 4))
    sampler.head = (filmed * 255).to(torch.uint8).expand(len(sampler.head), 32, 32)
    monkeypatch.setattr(outline_start, "starting_cover", lambda *_: start.float())
    new, old = outline_pairs(untrained, untrained.occupancy)
    neck = untrained.space.from_head(np.array([0.0, ASIDE_CM[2], 0.0]))[1]
    found = np.abs(new[:, 1] - neck) < 0.02
    assert found.sum() == 4  # both sides, and once more behind
    assert np.allclose(np.abs(new[found, 0]) - np.abs(old[found, 0]), 0.07 * (1 + 32 * GROWN), atol=0.02)


def test_the_outline_moves_the_skull_and_landmarks_hold_the_face(untrained: AvatarTraining) -> None:
    new, old = outline_pairs(untrained, untrained.occupancy)
    face = np.random.default_rng(0).normal(0, 3, (478, 3)).astype(np.float32)
    moved = FaceDisplacement(face, face, untrained.space, (new, old))
    wanted = old - new
    assert np.linalg.norm(moved(new) - wanted, axis=1).mean() < 0.5 * np.linalg.norm(wanted, axis=1).mean()
    assert np.linalg.norm(moved(untrained.space.from_head(face[::3])), axis=1).mean() < 0.03


def test_behind_the_head_the_torso_has_the_neck_and_above_the_chin_nothing(untrained: AvatarTraining) -> None:
    """By hand: a head with hair down to the picture's end, a shoulder at its left, a hair's edge in one frame."""
    frames = untrained.frames
    frames.head[:] = 0
    frames.head[:, 5:, 8:24] = 255
    frames.head[0, 3:5, 8:24] = 90
    frames.rgba[:] = 0
    frames.rgba[frames.head > 0] = (50, 60, 70, 255)
    frames.rgba[0, 3:5, 8:24] = 90
    frames.rgba[:, 20:, :8] = (160, 120, 40, 255)
    with torch.no_grad():
        untrained.torso.rgba.fill_(0.5)
    fill_torso(untrained, untrained.occupancy)
    layer = untrained.torso.rgba.detach()
    assert float(layer[14, 16].abs().max()) == 0  # behind the face
    assert float(layer[4, 16].abs().max()) == 0  # the hair's edge
    assert torch.allclose(layer[30, 16], torch.tensor([50, 60, 70, 255]) / 255)  # the neck
    assert torch.allclose(layer[22, 22], layer[30, 16])  # hair beside the mouth, where the starting head has nothing
    assert torch.allclose(layer[21, 2], torch.tensor([160, 120, 40, 255]) / 255)  # the shoulder
    assert not untrained.samplers[32].head[:, 30:].any() and untrained.samplers[32].head[:, 14, 16].all()
    batch = untrained.samplers[32].batch(torch.tensor([0]), [torch.tensor([14 * 32 + 16, 22 * 32 + 22, 30 * 32 + 16])])
    assert untrained._emphasis(batch).opacity.tolist() == [1, 0, 1]
    untrained.torso.rgba.sum().backward()
    gradient = untrained.torso.rgba.grad
    assert gradient is not None and float(gradient[14, 16].abs().max()) == 0 and float(gradient[21, 2, 3]) == 1


def test_a_thin_rim_beside_the_face_is_no_hanging_hair() -> None:
    """It would stand beside a turned head as a line."""
    picture = torch.zeros(32, 32, dtype=torch.bool)
    picture[4:28, 6] = True
    picture[4:28, 20:26] = True
    found = _broad(picture, 3, 1)
    assert not found[:, :12].any()
    assert bool(found[10, 19:27].all()) and not found[10, 27:].any()


def test_a_head_cut_by_the_picture_gives_no_pairs(untrained: AvatarTraining) -> None:
    sampler = untrained.samplers[32]
    sampler.head = torch.full_like(sampler.head, 255)
    new, old = outline_pairs(untrained, untrained.occupancy)
    assert new.shape == old.shape == (0, 3)


def _raw(training: AvatarTraining, surface) -> torch.Tensor:  # type: ignore[no-untyped-def]
    chosen = torch.tensor([surface.frame])
    conditions = training.field.frame_conditions(training.motion[chosen], training.rotvec[chosen])
    with torch.no_grad():
        return training.field.outputs(training.field.plane_features(surface.points), [len(surface.points)], conditions)


def _shown(training: AvatarTraining, surface) -> torch.Tensor:  # type: ignore[no-untyped-def]
    light = surface.weight[:, None] * torch.sigmoid(_raw(training, surface)[:, 1:])
    return torch.zeros(len(surface.wanted), 3).index_add(0, surface.ray, light)
