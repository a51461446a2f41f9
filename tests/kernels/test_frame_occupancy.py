"""A frame's own occupancy: the C++ kernel keeps the voxels that the reference keeps, and they hold what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.checks import KernelInputError
from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from kernels.ray_march.cpu_impl import CpuScene
from kernels.ray_march.frame_occupancy import corners_at, frame_occupancy
from kernels.ray_march.reference import is_occupied, render_reference, warp_at
from kernels.ray_march.synthetic import head_frame, random_field, random_frame

pytestmark = pytest.mark.usefixtures("native")

FLOAT32_TOLERANCE = 1e-4
ROUNDED_PSNR_DB = 45.0


def field_with_matter(seed: int, *, grid: int, matter_grid: int, fill: float = 0.3, share: float = 0.3) -> FieldArrays:
    shape = (matter_grid,) * 3
    return replace(random_field(seed, grid=grid, fill=fill), matter=np.random.default_rng(seed).random(shape) < share)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**20),
    grid=st.integers(1, 70),
    matter_grid=st.integers(1, 70),
    fill=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    nodes=st.tuples(*[st.integers(2, 33)] * 3),
    warp_scale=st.sampled_from([0.0, 0.03, 0.5, 1e20]),
    threads=st.integers(1, 3),
)
def test_every_level_keeps_the_same_voxels(
    isa: str,
    seed: int,
    grid: int,
    matter_grid: int,
    fill: float,
    nodes: tuple[int, int, int],
    warp_scale: float,
    threads: int,
) -> None:
    field = field_with_matter(seed, grid=grid, matter_grid=matter_grid, fill=fill)
    warp = np.random.default_rng(seed).normal(size=(*nodes, 3), scale=warp_scale).astype(np.float32)
    frame = replace(random_frame(seed, 4, 4), warp=warp)
    scene = CpuScene(field, threads=threads, instruction_set=isa)
    np.testing.assert_array_equal(scene.frame_occupancy(frame), frame_occupancy(field, frame))


def test_frames_leave_no_trace(isa: str) -> None:
    """Frame after frame, with warps of other sizes between, also after rendering."""
    field = field_with_matter(1, grid=40, matter_grid=24)
    scene = CpuScene(field, threads=2, instruction_set=isa)
    rng = np.random.default_rng(2)
    for turn, nodes in enumerate([(5, 4, 6), (3, 30, 2), (5, 4, 6), (20, 3, 40)]):
        warp = rng.normal(size=(*nodes, 3), scale=0.1).astype(np.float32)
        frame = replace(random_frame(turn, 20, 20), warp=warp)
        scene.render(frame, np.full((20, 20, 4), np.nan, np.float32))
        np.testing.assert_array_equal(scene.frame_occupancy(frame), frame_occupancy(field, frame))


@pytest.mark.parametrize(("grid", "matter_grid"), [(3, 2), (16, 16), (40, 25)])
def test_pictures_match_the_reference(isa: str, grid: int, matter_grid: int) -> None:
    field = replace(field_with_matter(5, grid=grid, matter_grid=matter_grid), termination=0.0)
    frame = random_frame(6, 31, 33)
    expected = render_reference(field, frame)
    marcher = RayMarcher(field, instruction_set=isa, threads=2)
    rgba = marcher.render(frame)
    assert marcher.render_stats is not None
    assert marcher.render_stats.samples == expected.samples
    assert expected.samples < render_reference(replace(field, matter=None), frame).samples
    if isa.startswith(("avx512bf", "avx2i", "avx512i")):
        assert -10 * np.log10(np.mean((rgba - expected.rgba) ** 2)) > ROUNDED_PSNR_DB
    else:
        np.testing.assert_allclose(rgba, expected.rgba, atol=FLOAT32_TOLERANCE)


def test_matter_everywhere_and_nowhere(isa: str) -> None:
    field, frame = random_field(7), random_frame(8, 30, 30)
    whole = RayMarcher(field, instruction_set=isa).render(frame)
    everywhere = RayMarcher(replace(field, matter=np.ones((9, 9, 9), np.bool_)), instruction_set=isa).render(frame)
    np.testing.assert_array_equal(everywhere, whole)
    assert not RayMarcher(replace(field, matter=np.zeros((9, 9, 9), np.bool_)), instruction_set=isa).render(frame).any()


def test_without_matter_the_occupancy_is_the_avatars(isa: str) -> None:
    field, frame = random_field(9), random_frame(10, 4, 4)
    assert frame_occupancy(field, frame) is field.occupancy
    scene = CpuScene(field, threads=1, instruction_set=isa)
    np.testing.assert_array_equal(scene.frame_occupancy(frame), field.occupancy)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20), grid=st.integers(4, 40), size=st.floats(0.0, 3.0))
def test_what_leads_to_matter_is_kept(seed: int, grid: int, size: float) -> None:
    """Where the warp at most doubles distances, no voxel is lost from which a point goes deep inside matter."""
    rng = np.random.default_rng(seed)
    deep = rng.random((grid,) * 3) < 0.05
    field = replace(random_field(seed, grid=grid, fill=0.5), matter=_dilated(deep))
    frame = head_frame(8, seed=seed)
    frame = replace(frame, warp=np.ascontiguousarray(frame.warp * np.float32(size)))
    points = rng.uniform(-1, 1, (4000, 3)).astype(np.float32)
    canonical = points + warp_at(field, frame, points)
    needed = is_occupied(field.occupancy, points) & is_occupied(deep, canonical.astype(np.float32))
    assert is_occupied(frame_occupancy(field, frame), points)[needed].all()


def test_corners_are_where_the_warp_puts_them() -> None:
    field, frame = field_with_matter(11, grid=7, matter_grid=3), random_frame(12, 4, 4)
    ends = np.linspace(-1, 1, 8)
    corners = np.stack(np.meshgrid(ends, ends, ends, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    wanted = corners + warp_at(field, frame, corners)
    got = np.stack([corners_at(field, frame.warp, axis) for axis in range(3)], -1).reshape(-1, 3)
    np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "bad", [np.ones((2, 3, 2), np.bool_), np.ones((2, 2, 2), np.uint8), np.ones((0, 0, 0), np.bool_)]
)
def test_matter_is_checked(bad: NDArray[np.bool_]) -> None:
    with pytest.raises(KernelInputError, match="matter"):
        replace(random_field(1), matter=bad)


def _dilated(voxels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = np.pad(voxels, 1)
    for axis in range(3):
        wide = wide | np.roll(wide, 1, axis) | np.roll(wide, -1, axis)
    return np.ascontiguousarray(wide[1:-1, 1:-1, 1:-1])


def test_the_head_frame_is_smooth_enough() -> None:
    """The property above needs distances at most doubled by the largest warp it uses."""
    frame: FrameInputs = head_frame(8)
    steps = [
        np.abs(np.diff(3.0 * frame.warp, axis=axis)).sum(-1).max() * (frame.warp.shape[axis] - 1) / 2
        for axis in range(3)
    ]
    assert sum(steps) < 1.0
