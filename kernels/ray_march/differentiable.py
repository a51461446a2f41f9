"""Public calls of the differentiable ray marcher: sums along rays, and whole pictures, with gradients.

For training: `RayMarcher` (op.py) is faster where nobody asks for a gradient. Gradients reach planes, weights, biases,
warp grids (so the motion that makes them), and origins, directions and entry distances (so the cameras).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from kernels.backend import Backend, choose_backend, triton_problem
from kernels.checks import KernelInputError
from kernels.ray_march.tensors import (
    FieldTensors,
    FrameTensors,
    Rays,
    RaySums,
    Volume,
    camera_rays,
    check_march,
)
from kernels.ray_march.torch_reference import march_rays_torch

__all__ = ["Pictures", "Precision", "march_rays", "render_differentiable"]

Precision = Literal["float32", "bfloat16"]  # of the MLP's products; float16 would lose small gradients


class Pictures(NamedTuple):
    """F pictures as serving shows them: a ray that ended is divided by its opacity."""

    rgba: Tensor  # (F, H, W, 4) premultiplied, 0..1
    depth: Tensor  # (F, H, W) mean distance along the ray of what is seen; 0 where nothing is


def march_rays(
    field: FieldTensors,
    frames: FrameTensors,
    rays: Rays,
    volume: Volume,
    *,
    heaviest: Tensor | None = None,
    precision: Precision = "bfloat16",
    backend: Backend = "auto",
) -> RaySums:
    """Sums along rays (NeRF, Mildenhall et al. 2020, Eq. 3), differentiable in field, frames and rays.

    Which samples are evaluated (occupancy, `t_far`, termination) is constant. `samples` has no gradient.

    Args:
        heaviest: (G^3,) float32, raised in place to the largest compositing weight met in each voxel.
        precision: Of the MLP's products on a GPU; sums are float32. The reference computes in the field's dtype.
        backend: "auto" takes Triton on CUDA, plain torch elsewhere.

    Raises:
        KernelInputError: Shapes, dtypes or devices disagree, or a backend that is not here.
    """
    check_march(field, frames, rays, volume)
    if precision not in get_args(Precision):
        raise KernelInputError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    if heaviest is not None and (heaviest.shape != (volume.grid**3,) or heaviest.dtype != torch.float32):
        raise KernelInputError(
            f"heaviest must be float32 ({volume.grid**3},), got {heaviest.dtype} {tuple(heaviest.shape)}"
        )
    device = field.planes.device
    chosen = choose_backend("ray_march gradients", backend, triton=triton_problem(device, backend))
    if chosen != "triton":
        return march_rays_torch(field, frames, rays, volume, heaviest)
    call = _Call(rays.counts, volume, precision, heaviest)
    sums, samples = _March.apply(call, *field, *frames, *rays[:4])  # type: ignore[no-untyped-call]
    return RaySums(sums[:, :3], sums[:, 3], sums[:, 4], sums[:, 5], samples)


def render_differentiable(
    field: FieldTensors,
    frames: FrameTensors,
    cameras: Tensor,  # (F, 3, 4) camera to canonical axes: rotation | centre
    lenses: Tensor,  # (F, 4) fx, fy, cx, cy in pixels
    volume: Volume,
    *,
    height: int,
    width: int,
    precision: Precision = "bfloat16",
    backend: Backend = "auto",
) -> Pictures:
    """Whole pictures of F frames, equal to `RayMarcher.render`; differentiable in field, frames and cameras.

    Raises:
        KernelInputError: As `march_rays`.
    """
    rays = camera_rays(cameras, lenses, volume, height=height, width=width)
    sums = march_rays(field, frames, rays, volume, precision=precision, backend=backend)
    opacity = 1 - sums.transmittance[:, None]
    rgba = torch.cat([sums.color, opacity], 1)
    ended = sums.transmittance[:, None] <= volume.termination
    seen = (opacity > 0) & (sums.samples > 0)[:, None]
    safe = torch.where(seen, opacity, torch.ones_like(opacity))
    depth = torch.where(seen, rays.t_near[:, None] + sums.distance[:, None] / safe, torch.zeros_like(opacity))
    shape = (len(cameras), height, width)
    return Pictures(torch.where(ended, rgba / safe, rgba).view(*shape, 4), depth.view(shape))


class _Call(NamedTuple):
    """What a call has beside differentiable tensors."""

    counts: tuple[int, ...]
    volume: Volume
    precision: Precision
    heaviest: Tensor | None


class _March(torch.autograd.Function):
    """Sums (N, 6) and sample counts (N,): the Triton kernels of `triton_backward`."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        from kernels.ray_march.triton_launch import launch_sums

        sums, samples = launch_sums(call.counts, call.volume, call.precision, call.heaviest, tensors)
        ctx.call = call
        ctx.save_for_backward(*tensors, sums, samples)
        ctx.mark_non_differentiable(samples)
        return sums, samples

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        from kernels.ray_march.triton_launch import launch_gradients

        *tensors, sums, samples = ctx.saved_tensors
        call: _Call = ctx.call
        field_wanted = any(ctx.needs_input_grad[1:6])
        found = launch_gradients(
            call.counts, call.volume, call.precision, tuple(tensors), sums, samples, upstream, field=field_wanted
        )
        typed = [
            g.to(t.dtype) if wanted and g is not None else None
            for g, t, wanted in zip(found, tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        return (None, *typed)
