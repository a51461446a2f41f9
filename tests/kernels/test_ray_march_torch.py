"""The torch ray marcher: the NumPy reference's pictures, and gradients that finite differences confirm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.checks import KernelInputError
from kernels.ray_march.reference import render_reference
from kernels.ray_march.synthetic import random_field, random_frame
from kernels.ray_march.tensors import (
    FieldTensors,
    FrameTensors,
    Rays,
    Volume,
    camera_rays,
    camera_tensors,
    check_march,
    field_tensors,
    frame_tensors,
    volume_of,
)
from kernels.ray_march.torch_reference import march_rays_torch

CPU = torch.device("cpu")
DOUBLE = torch.float64


@pytest.mark.parametrize(("height", "width", "fill"), [(1, 1, 0.5), (7, 9, 0.3), (9, 7, 0.02)])
def test_pictures_equal_the_numpy_reference(height: int, width: int, fill: float) -> None:
    """Positions in float32, values in float64: the same samples, and the same picture to float32's last digits."""
    field, frame = random_field(3, fill=fill), random_frame(4, height, width)
    wanted = render_reference(field, frame)
    volume = volume_of(field, CPU)
    cameras, lenses = camera_tensors([frame], CPU, torch.float32)
    rays = camera_rays(cameras, lenses, volume, height=height, width=width)
    sums = march_rays_torch(field_tensors(field, CPU, DOUBLE), frame_tensors([frame], CPU, DOUBLE), rays, volume)
    opacity = 1 - sums.transmittance
    rgba = torch.cat([sums.color, opacity[:, None]], 1)
    ended = sums.transmittance <= field.termination
    rgba[ended] /= opacity[ended, None]
    assert int(sums.samples.sum()) == wanted.samples
    np.testing.assert_allclose(rgba.view(height, width, 4).numpy(), wanted.rgba, atol=1e-6)


def test_gradients_agree_with_finite_differences() -> None:
    """In float64, through everything: planes, weights, biases, warp, and the cameras by way of the positions."""
    arrays = random_field(5, plane_side=4, grid=4, fill=1.0, density_bias=-2.0, step=0.5, termination=0.0)
    pictures = [random_frame(seed, 2, 2) for seed in (6, 7)]
    volume = volume_of(arrays, CPU)
    field, frames = field_tensors(arrays, CPU, DOUBLE), frame_tensors(pictures, CPU, DOUBLE)
    cameras, lenses = camera_tensors(pictures, CPU, DOUBLE)

    def march(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rays = camera_rays(tensors[8], lenses, volume, height=2, width=2)
        return tuple(march_rays_torch(FieldTensors(*tensors[:5]), FrameTensors(*tensors[5:8]), rays, volume)[:4])

    inputs = [t.requires_grad_() for t in (*field, *frames, cameras)]
    assert torch.autograd.gradcheck(march, inputs, fast_mode=True)


def test_weights_are_told_to_whoever_prunes() -> None:
    """A voxel's largest compositing weight; what was there before is kept where it is larger."""
    field, frame = random_field(3, fill=0.3, grid=8), random_frame(4, 5, 5)
    volume = volume_of(field, CPU)
    cameras, lenses = camera_tensors([frame], CPU, torch.float32)
    rays = camera_rays(cameras, lenses, volume, height=5, width=5)
    heaviest = torch.full((8**3,), 1e-6)
    tensors = field_tensors(field, CPU), frame_tensors([frame], CPU, torch.float32)
    march_rays_torch(*tensors, rays, volume, heaviest)
    touched = heaviest.view(8, 8, 8) > 1e-6
    assert bool(touched.any()) and not bool((touched & ~volume.occupancy).any())
    assert 0.01 < float(heaviest.max()) <= 1


def test_distances_count_voxels() -> None:
    occupancy = torch.zeros(9, 9, 9, dtype=torch.bool)
    occupancy[2, 4, 7] = True
    distance = Volume(occupancy, (-1, -1, -1), (1, 1, 1)).distance
    assert distance[2, 4, 7] == 0
    assert distance[4, 4, 4] == 3
    assert distance[8, 0, 0] == 7
    assert Volume(torch.zeros_like(occupancy), (-1, -1, -1), (1, 1, 1)).distance.unique().tolist() == [16]


def test_wrong_inputs_are_named() -> None:
    field, frame = random_field(3), random_frame(4, 2, 2)
    volume, tensors = volume_of(field, CPU), field_tensors(field, CPU)
    frames = frame_tensors([frame], CPU, torch.float32)
    rays = camera_rays(*camera_tensors([frame], CPU, torch.float32), volume, height=2, width=2)
    check_march(tensors, frames, rays, volume)
    with pytest.raises(KernelInputError, match=r"w2 must have shape \(64, 64\), got \(64, 63\)"):
        check_march(tensors._replace(w2=tensors.w2[:, :63]), frames, rays, volume)
    with pytest.raises(KernelInputError, match="planes must be floating point"):
        check_march(tensors._replace(planes=tensors.planes.long()), frames, rays, volume)
    with pytest.raises(KernelInputError, match=r"counts must sum to the 4 rays, got \(3,\)"):
        check_march(tensors, frames, Rays(*rays[:4], (3,)), volume)
    with pytest.raises(KernelInputError, match="share a device"):
        check_march(tensors._replace(b3=tensors.b3.to("meta")), frames, rays, volume)
    with pytest.raises(KernelInputError, match="cube of bool"):
        Volume(volume.occupancy[:3], (-1, -1, -1), (1, 1, 1))
