"""Where the field has matter: computed as the field is evaluated, and pictures that skip the rest look the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.native import cpu_info
from kernels.ray_march import FieldArrays, RayMarcher
from kernels.ray_march import reference as kernel_reference
from kernels.ray_march.cpu_impl import CpuScene
from kernels.ray_march.frame_occupancy import frame_occupancy
from kernels.ray_march.synthetic import random_field, random_frame
from model.avatar import Avatar, load_avatar
from model.motion.space import load_motion_space
from model.radiance import matter
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer, FieldConditioner, field_arrays, served_field

SIZE_PX = 128
LEAST_PSNR_DB, MOST_SAMPLES = 65.0, 0.7

Motion = NDArray[np.float32]


@pytest.fixture(scope="module")
def shipped() -> tuple[Avatar, FieldConditioner, FieldArrays]:
    avatar = load_avatar()
    conditioner = FieldConditioner(avatar.config, avatar.arrays)
    return avatar, conditioner, served_field(avatar, conditioner)


def wide_motions() -> Iterator[tuple[Motion, HeadPose]]:
    """Others than `spread_motions`: rest, codes at the ends of their ranges, turned heads, closed eyes."""
    space, rng = load_motion_space(), np.random.default_rng(3)
    yield np.zeros(32, np.float32), HeadPose()
    for number in range(11):
        motion = np.zeros(32, np.float32)
        motion[:16] = rng.normal(0, 1, 16) if number % 2 else rng.choice([-0.9, 0.9], 16) * space.high[:16]
        motion[16:20] = rng.uniform(space.low[16:20], space.high[16:20])
        motion[20:22] = number % 3 / 2
        yaw, pitch, roll = rng.uniform(-20, 20), rng.uniform(-10, 10), rng.uniform(-8, 8)
        yield space.clamp(motion), HeadPose(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll)


@pytest.mark.skipif(not cpu_info().built, reason="the native library is not built")
def test_pictures_look_the_same_with_half_the_samples(shipped: tuple[Avatar, FieldConditioner, FieldArrays]) -> None:
    _, conditioner, field = shipped
    every, some = RayMarcher(replace(field, matter=None)), RayMarcher(field)
    for motion, pose in wide_motions():
        frame = conditioner.frame_inputs(motion, pose, SIZE_PX)
        error = float(np.mean((every.render(frame) - some.render(frame)) ** 2))
        assert -10 * np.log10(error + 1e-16) > LEAST_PSNR_DB, (motion, pose)
        assert every.render_stats is not None
        assert some.render_stats is not None
        assert some.render_stats.samples < MOST_SAMPLES * every.render_stats.samples


@pytest.mark.skipif(not cpu_info().built, reason="the native library is not built")
def test_kernel_keeps_the_references_voxels_of_the_shipped_avatar(
    shipped: tuple[Avatar, FieldConditioner, FieldArrays],
) -> None:
    _, conditioner, field = shipped
    motion, pose = list(wide_motions())[-1]
    frame = conditioner.frame_inputs(motion, pose, 8)
    wanted = frame_occupancy(field, frame)
    for level in cpu_info().instruction_sets:
        scene = CpuScene(field, threads=2, instruction_set=level)
        np.testing.assert_array_equal(scene.frame_occupancy(frame), wanted)


def test_renderers_skip_what_a_frame_does_not_need(shipped: tuple[Avatar, FieldConditioner, FieldArrays]) -> None:
    avatar, conditioner, _ = shipped
    frame = conditioner.frame_inputs(np.zeros(32, np.float32), HeadPose(), 24)
    renderer, plain = AvatarRenderer(avatar, size_px=24), RayMarcher(field_arrays(avatar))
    renderer.marcher.render(frame)
    plain.render(frame)
    assert renderer.marcher.render_stats is not None
    assert plain.render_stats is not None
    assert renderer.marcher.render_stats.samples < plain.render_stats.samples


def test_matter_is_where_the_field_is_dense_or_not_known() -> None:
    field = random_field(1, plane_side=8, grid=6, fill=0.4, density_bias=-3.5)
    frames = [random_frame(seed, 4, 4) for seed in range(3)]
    found = matter.canonical_matter(field, [(f.bias1, f.bias2, f.warp) for f in frames])
    reached = matter.reached_voxels(field, [f.warp for f in frames])
    assert found[~reached].all()
    assert 0.02 < found[reached].mean() < 0.98
    index = np.stack(np.nonzero(reached), axis=1)[::97]
    opacity = np.zeros(len(index))
    for frame, quarters in product(frames, matter.POINTS):
        points = ((index + np.array(quarters) / 4) * (2 / matter.GRID) - 1).astype(np.float32)
        still = replace(frame, warp=np.zeros_like(frame.warp))  # already behind the warp
        density, _ = kernel_reference.evaluate_field(field, still, points)
        opacity = np.maximum(opacity, 1 - np.exp(-density * field.step))
    clear = np.abs(opacity / matter.FAINTEST - 1) > 1e-3
    np.testing.assert_array_equal(found[tuple(index.T)][clear], (opacity > matter.FAINTEST)[clear])


def test_an_empty_avatar_and_a_dense_one() -> None:
    """Nothing occupied: nothing is known. Dense everywhere: nothing can be skipped."""
    conditions = [(frame.bias1, frame.bias2, frame.warp) for frame in [random_frame(1, 4, 4)]]
    assert matter.canonical_matter(random_field(1, fill=0.0), conditions).all()
    assert matter.canonical_matter(random_field(1, density_bias=100.0), conditions).all()


def test_places_and_features_are_the_references() -> None:
    field, frame = random_field(2), random_frame(3, 4, 4)
    points = np.random.default_rng(4).uniform(-1.2, 1.2, (500, 3)).astype(np.float32)
    moved = matter.warp_at(field, frame.warp, points)
    np.testing.assert_allclose(moved, kernel_reference.warp_at(field, frame, points), atol=1e-6)
    wanted = kernel_reference.plane_features(field, points.astype(np.float64))
    np.testing.assert_allclose(matter.plane_features(field.planes, points), wanted, atol=1e-4)


def test_known_matter_belongs_to_its_field() -> None:
    field = random_field(1, plane_side=8, grid=6, density_bias=-3.5)
    conditions = [(frame.bias1, frame.bias2, frame.warp) for frame in [random_frame(1, 4, 4)]]
    first = matter.known_matter(field, conditions)
    np.testing.assert_array_equal(matter.known_matter(field, conditions), first)
    np.testing.assert_array_equal(matter.canonical_matter(field, conditions), first)
    denser = replace(field, b3=field.b3 + np.float32(9))
    assert matter.known_matter(denser, conditions).sum() > first.sum()


def test_motions_stay_within_the_motion_space() -> None:
    motions = list(matter.spread_motions(32))
    assert len(motions) == matter.MOTIONS
    assert not motions[0][0].any()
    for motion, _ in motions:
        assert not motion[24:].any()
        assert (np.abs(motion[:16]) <= matter.LARGEST_CODE).all()
        assert ((motion[20:22] >= 0) & (motion[20:22] <= 1)).all()
    assert {len(motion) for motion, _ in matter.spread_motions(7)} == {7}
