"""Gradients of the Triton ray marcher in its interpreter; test_ray_march_gradients.py runs this in its own process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.ray_march import differentiable, triton_launch
from kernels.ray_march.arrays import FieldArrays, FrameInputs
from kernels.ray_march.differentiable import march_rays, render_differentiable
from kernels.ray_march.reference import render_reference
from kernels.ray_march.synthetic import random_field, random_frame
from kernels.ray_march.tensors import (
    FieldTensors,
    FrameTensors,
    Rays,
    RaySums,
    camera_rays,
    camera_tensors,
    field_tensors,
    frame_tensors,
    volume_of,
)

CPU = torch.device("cpu")
NAMES = ("planes", "w1", "w2", "w3", "b3", "bias1", "bias2", "warp", "cameras")
RELATIVE = 1e-3  # of a gradient's norm, float32
HALF = 0.15  # the same with an MLP in bfloat16, eight bits: both passes round every activation


def small_field(**change: Any) -> FieldArrays:
    settings = {"plane_side": 8, "grid": 8, "fill": 0.6, "density_bias": -1.0, "step": 0.4} | change
    return random_field(5, **settings)


class Run:
    """One pass forward and back; `grads` by name. The loss weighs every sum of every ray at random."""

    def __init__(self, arrays: FieldArrays, pictures: list[FrameInputs], backend: str, **how: Any) -> None:
        volume = volume_of(arrays, CPU)
        planes = how.pop("planes", None)
        field = field_tensors(arrays, CPU)
        field = field if planes is None else field._replace(planes=planes.clone())
        cameras, lenses = camera_tensors(pictures, CPU, torch.float32)
        frames = frame_tensors(pictures, CPU, torch.float32)
        frozen = how.pop("frozen", False)
        leaves = [*([] if frozen else field), *frames, cameras]
        for leaf in leaves:
            leaf.requires_grad_()
        height, width = pictures[0].height, pictures[0].width
        rays = camera_rays(cameras, lenses, volume, height=height, width=width)
        self.heaviest = torch.zeros(volume.grid**3)
        how.setdefault("precision", "float32")
        self.sums = march_rays(field, frames, rays, volume, backend=backend, heaviest=self.heaviest, **how)
        generator = torch.Generator().manual_seed(0)
        count = height * width
        per_frame = [torch.randn(count, 6, generator=generator) for _ in range(9)]
        shade = torch.cat([per_frame[p.height % 2 + i] for i, p in enumerate(pictures)])
        self.loss = (stacked(self.sums) * shade).sum()
        self.loss.backward()
        names = NAMES[5:] if frozen else NAMES
        self.grads = {name: leaf.grad for name, leaf in zip(names, leaves, strict=True)}


def stacked(sums: RaySums) -> Tensor:
    """(N, 6)."""
    return torch.cat([sums.color, torch.stack(sums[1:4], 1)], 1)


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], relative: float) -> None:
    for name, want in wanted.items():
        assert torch.isfinite(found[name]).all(), name
        error, norm = float((found[name] - want).norm()), float(want.norm())
        assert norm > 0, name
        assert error <= relative * norm, f"{name}: off by {error / norm:.2g} of the gradient's norm"


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers that are not zeroed start as NaN."""

    def full(*shape: Any, **kind: Any) -> Tensor:
        whole = torch.zeros(*shape, **kind)
        return whole.fill_(float("nan") if whole.is_floating_point() else -(2**30))

    monkeypatch.setattr(triton_launch.torch, "empty", full)


@pytest.mark.usefixtures("poisoned")
def test_every_gradient_equals_the_reference() -> None:
    """Two frames of 3 x 5 rays, some of which miss; texels that nobody reads are NaN."""
    arrays, pictures = small_field(fill=0.1, plane_side=24), [random_frame(seed, 3, 5) for seed in (6, 7)]
    read = (Run(arrays, pictures, "reference").grads["planes"] != 0).any(-1)
    near = torch.nn.functional.max_pool2d(read[:, None].float(), 3, 1, 1)[:, 0] > 0  # read with weight 0 at the border
    planes = field_tensors(arrays, CPU).planes
    planes[~near] = float("nan")
    assert bool(planes.isnan().any())
    wanted = Run(arrays, pictures, "reference", planes=planes)
    found = Run(arrays, pictures, "triton", planes=planes)
    assert found.sums.samples.tolist() == wanted.sums.samples.tolist()
    assert not wanted.sums.samples.all()
    torch.testing.assert_close(stacked(found.sums), stacked(wanted.sums), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(found.heaviest, wanted.heaviest, atol=2e-6, rtol=1e-5)
    assert_near(found.grads, wanted.grads, RELATIVE)


@pytest.mark.usefixtures("poisoned")
def test_rays_that_hit_nothing_have_no_gradient() -> None:
    """Looking away, and through a field without a voxel; and no ray at all."""
    arrays, picture = small_field(), random_frame(6, 3, 3)
    away = picture.cam_to_canonical.copy()
    away[:, [0, 2]] *= -1
    for field, camera in ((arrays, away), (small_field(fill=0.0), picture.cam_to_canonical)):
        volume = volume_of(field, CPU)
        tensors, frames = field_tensors(field, CPU), frame_tensors([picture], CPU, torch.float32)
        cameras = torch.from_numpy(camera)[None]
        _, lenses = camera_tensors([picture], CPU, torch.float32)
        leaves = [t.requires_grad_() for t in (*tensors, *frames, cameras)]
        rays = camera_rays(cameras, lenses, volume, height=3, width=3)
        sums = march_rays(tensors, frames, rays, volume, backend="triton")
        stacked(sums).sum().backward()
        assert sums.color.abs().sum() == 0 and (sums.transmittance == 1).all()
        assert all(float(leaf.grad.abs().sum()) == 0 for leaf in leaves)
        nothing = Rays(*(part[:0] for part in rays[:4]), (0,))
        assert stacked(march_rays(tensors, frames, nothing, volume, backend="triton")).shape == (0, 6)


@pytest.mark.nightly
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (10, 10)])
def test_odd_numbers_of_rays(height: int, width: int) -> None:
    arrays, pictures = small_field(fill=1.0), [random_frame(3, height, width)]
    wanted, found = (Run(arrays, pictures, backend) for backend in ("reference", "triton"))
    assert_near(found.grads, wanted.grads, RELATIVE)


@pytest.mark.nightly
def test_an_mlp_in_bfloat16() -> None:
    arrays, pictures = small_field(), [random_frame(6, 5, 7)]
    wanted = Run(arrays, pictures, "reference")
    found = Run(arrays, pictures, "triton", precision="bfloat16")
    assert_near(found.grads, wanted.grads, HALF)
    assert float(found.loss.detach()) != float(wanted.loss.detach())


@pytest.mark.nightly
def test_a_frozen_field_passes_on_what_motion_needs() -> None:
    arrays, pictures = small_field(), [random_frame(6, 4, 5)]
    wanted, found = (Run(arrays, pictures, backend, frozen=True) for backend in ("reference", "triton"))
    assert_near(found.grads, wanted.grads, RELATIVE)


@pytest.mark.nightly
def test_a_batch_is_the_sum_of_its_frames() -> None:
    """The field's gradients add up; a frame's own are its own."""
    arrays, pictures = small_field(), [random_frame(seed, 4, 4) for seed in (6, 7, 8)]
    volume, (cameras, lenses) = volume_of(arrays, CPU), camera_tensors(pictures, CPU, torch.float32)

    def grads(chosen: list[int]) -> dict[str, Tensor]:
        field = field_tensors(arrays, CPU)
        frames = frame_tensors([pictures[i] for i in chosen], CPU, torch.float32)
        leaves = [t.requires_grad_() for t in (*field, *frames)]
        rays = camera_rays(cameras[chosen], lenses[chosen], volume, height=4, width=4)
        sums = march_rays(field, frames, rays, volume, backend="triton", precision="float32")
        (stacked(sums) ** 2).sum().backward()
        return {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=False)}

    whole, parts = grads([0, 1, 2]), [grads([i]) for i in range(3)]
    summed = {name: sum(part[name] for part in parts) for name in NAMES[:5]}
    own = {name: torch.cat([part[name] for part in parts]) for name in NAMES[5:8]}
    assert_near(whole, summed | own, 1e-5)


@pytest.mark.nightly
def test_upstream_gradients_of_any_layout() -> None:
    arrays, pictures = small_field(), [random_frame(6, 4, 5)]
    volume, (cameras, lenses) = volume_of(arrays, CPU), camera_tensors(pictures, CPU, torch.float32)
    upstream = torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    found = []
    for shape in (upstream.t(), upstream.t().contiguous()):
        field, frames = field_tensors(arrays, CPU), frame_tensors(pictures, CPU, torch.float32)
        frames.warp.requires_grad_()
        rays = camera_rays(cameras, lenses, volume, height=4, width=5)
        sums = march_rays(field, frames, rays, volume, backend="triton", precision="float32")
        sums.color.backward(shape)
        found.append(frames.warp.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.nightly
def test_pictures_equal_the_numpy_reference() -> None:
    arrays, pictures = random_field(3, fill=0.3, plane_side=8, step=0.1), [random_frame(s, 5, 7) for s in (4, 5)]
    volume = volume_of(arrays, CPU)
    cameras, lenses = camera_tensors(pictures, CPU, torch.float32)
    frames = frame_tensors(pictures, CPU, torch.float32)
    found = render_differentiable(
        field_tensors(arrays, CPU),
        frames,
        cameras,
        lenses,
        volume,
        height=5,
        width=7,
        precision="float32",
        backend="triton",
    )
    for picture, wanted in zip(found.rgba, pictures, strict=True):
        np.testing.assert_allclose(picture.numpy(), render_reference(arrays, wanted).rgba, atol=1e-5)
    seen = found.rgba[..., 3] > 0.5
    assert bool((found.depth[seen] > 1).all()) and bool((found.depth[seen] < 5).all())


@pytest.mark.nightly
def test_the_cameras_gradient_agrees_with_finite_differences() -> None:
    """Of a picture's mean colour, differences in float64 of the plain renderer; every voxel is occupied."""
    arrays, picture = small_field(fill=1.0, termination=0.0, density_bias=-2.0), random_frame(6, 4, 4)
    volume, (cameras, lenses) = volume_of(arrays, CPU), camera_tensors([picture], CPU, torch.float64)

    def mean(moved: Tensor, kind: torch.dtype, backend: Any) -> Tensor:
        field, frames = field_tensors(arrays, CPU, kind), frame_tensors([picture], CPU, kind)
        how: dict[str, Any] = {"height": 4, "width": 4, "precision": "float32", "backend": backend}
        return render_differentiable(field, frames, moved, lenses.to(kind), volume, **how).rgba.mean()

    leaf = cameras.float().requires_grad_()
    mean(leaf, torch.float32, "triton").backward()
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        direction = torch.randn(cameras.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (mean(cameras + s * 1e-6 * direction, torch.float64, "reference") for s in (1, -1))
        slope = float(ahead - behind) / 2e-6
        assert float((leaf.grad.double() * direction).sum()) == pytest.approx(slope, rel=2e-3, abs=1e-5)


def test_what_is_refused() -> None:
    arrays, picture = small_field(), random_frame(6, 2, 2)
    volume, (cameras, lenses) = volume_of(arrays, CPU), camera_tensors([picture], CPU, torch.float32)
    field, frames = field_tensors(arrays, CPU), frame_tensors([picture], CPU, torch.float32)
    rays = camera_rays(cameras, lenses, volume, height=2, width=2)
    for wrong in ({"precision": "float16"}, {"heaviest": torch.zeros(3)}, {"backend": "cpu"}):
        with pytest.raises(differentiable.KernelInputError, match=r"float16|\(3,\)|'cpu'"):
            march_rays(FieldTensors(*field), FrameTensors(*frames), rays, volume, **wrong)  # type: ignore[arg-type]
