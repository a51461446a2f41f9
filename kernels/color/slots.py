"""Public call for many pictures at once: torch tensors on any device, one I420 picture for each slot."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from kernels.backend import choose_backend, triton_problem
from kernels.checks import KernelInputError
from kernels.color.cpu_impl import composite_i420_cpu
from kernels.color.reference import composite_i420_reference, i420_bytes
from kernels.native import cpu_info

SlotBackend = Literal["auto", "reference", "cpu", "triton", "cupy"]


def composite_i420_slots(
    rgba: Tensor,  # (N, H, W, 4) float32, premultiplied, 0..1
    underlay: Tensor,  # (P, H, W, 3) uint8, opaque RGB
    out: Tensor | None = None,  # (N, i420_bytes(H, W)) uint8
    *,
    which: Tensor | None = None,  # (N,) int64: the picture behind each slot; None: its own (P = N)
    backend: SlotBackend = "auto",
) -> Tensor:
    """Composite each slot and convert it to I420: BT.601 limited range, chroma averaged over 2 x 2 pixels.

    All backends agree bit by bit with :func:`kernels.color.composite_i420`. Sides may be odd: chroma planes are rounded
    up, and the last row or column counts twice. Values out of range saturate. Nothing waits for a GPU here, so the
    call may be captured in a CUDA graph. Not checked, since that would wait: ``which`` must be within 0..P-1, and
    ``rgba`` must not hold NaN.

    "auto" takes Triton for tensors on a GPU, and the native library on the CPU where it was built; "cupy" needs the
    extra ``gpu``. "triton" also takes tensors on the CPU if Triton was imported with ``TRITON_INTERPRET=1``.

    Returns:
        uint8 (N, i420_bytes): the Y, U and V planes of each slot one after another; ``out`` if it was given.

    Raises:
        KernelInputError: Shapes, dtypes, strides or devices disagree, or the backend is not here.
    """
    slots, height, width = _check(rgba, underlay, which)
    wanted = (slots, i420_bytes(height, width))
    if out is None:
        out = torch.empty(wanted, dtype=torch.uint8, device=rgba.device)
    _check_tensor("out", out, wanted, torch.uint8, rgba.device)
    chosen = _choose(backend, rgba.device)
    if not slots:
        return out
    if chosen == "triton":
        from kernels.color.triton_impl import composite_i420_triton

        composite_i420_triton(rgba, underlay, which, out)
    elif chosen == "cupy":
        from kernels.color.cupy_impl import composite_i420_cupy

        composite_i420_cupy(rgba, underlay, which, out)
    else:
        _on_cpu(rgba, underlay, which, out, reference=chosen == "reference")
    return out


def _on_cpu(rgba: Tensor, underlay: Tensor, which: Tensor | None, out: Tensor, *, reference: bool) -> None:
    heads, under, pictures = rgba.numpy(), underlay.numpy(), out.numpy()
    rows = range(len(heads)) if which is None else which.numpy()
    for slot, row in enumerate(rows):
        if reference:
            pictures[slot] = composite_i420_reference(heads[slot], under[row])
        else:
            composite_i420_cpu(heads[slot], under[row], pictures[slot])


def _check(rgba: Tensor, underlay: Tensor, which: Tensor | None) -> tuple[int, int, int]:
    for name, given in (("rgba", rgba), ("underlay", underlay)):
        if not torch.is_tensor(given):
            raise KernelInputError(f"{name} must be a tensor, got {type(given).__name__}")
    if rgba.ndim != 4 or rgba.shape[3] != 4 or 0 in rgba.shape[1:]:
        raise KernelInputError(f"rgba must be a tensor (N, H, W, 4), got {tuple(rgba.shape)}")
    slots, height, width, _ = rgba.shape
    _check_tensor("rgba", rgba, tuple(rgba.shape), torch.float32, rgba.device)
    pictures = slots
    if which is not None:
        _check_tensor("which", which, (slots,), torch.int64, rgba.device)
        pictures = len(underlay) if underlay.ndim else 0
        if not pictures and slots:
            raise KernelInputError(f"which needs at least one underlay, got {tuple(underlay.shape)}")
    _check_tensor("underlay", underlay, (pictures, height, width, 3), torch.uint8, rgba.device)
    return slots, height, width


def _check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    if tensor.dtype != dtype:
        raise KernelInputError(f"{name} must be {dtype}, got {tensor.dtype}")
    if tensor.device != device:
        raise KernelInputError(f"{name} must be on {device}, got {tensor.device}")
    if tuple(tensor.shape) != shape:
        raise KernelInputError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if not tensor.is_contiguous():
        raise KernelInputError(f"{name} must be contiguous, got strides {tensor.stride()}")


def _choose(backend: SlotBackend, device: torch.device) -> str:
    """What runs; a backend that was named and cannot is an error."""
    if backend not in get_args(SlotBackend):
        raise KernelInputError(f"backend must be one of {get_args(SlotBackend)}, got {backend!r}")
    if backend == "cupy":
        if not has_cupy():
            raise KernelInputError("color: backend 'cupy' is not installed: pip install 'nerf-lipsync[gpu]'")
        if device.type != "cuda":
            raise KernelInputError(f"color: backend 'cupy' asked for, but the tensors are on {device}")
        return backend
    chosen = choose_backend("color", backend, cpu_library=cpu_info().built, triton=triton_problem(device, backend))
    if chosen != "triton" and device.type != "cpu":
        raise KernelInputError(f"color: backend {chosen!r} takes tensors on the CPU, got {device}")
    return chosen


@cache
def has_cupy() -> bool:
    """Whether the extra ``gpu`` is installed."""
    return find_spec("cupy") is not None
