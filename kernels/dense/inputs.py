"""Checks of tensors; every message names the value received."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.checks import KernelInputError


def is_plain(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    """Whether it is a contiguous float32 tensor on the CPU of just this shape. Quick: a call takes microseconds."""
    return tensor.shape == shape and tensor.dtype is torch.float32 and tensor.is_contiguous() and tensor.is_cpu


def check_tensor(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """A contiguous float32 tensor on the CPU of this shape; None matches any positive length.

    Raises:
        KernelInputError: It is not.
    """
    if is_plain(tensor, shape):
        return
    check_rows(name, tensor, shape)
    if not tensor.is_contiguous():
        raise KernelInputError(f"{name} must be contiguous, got strides {tensor.stride()}")


def check_rows(name: str, tensor: Tensor, shape: tuple[int | None, ...]) -> None:
    """The same, but only the last dimension has to be contiguous.

    Raises:
        KernelInputError: It is not.
    """
    if tensor.dtype is not torch.float32 or not tensor.is_cpu:
        raise KernelInputError(f"{name} must be torch.float32 on the CPU, got {tensor.dtype} on {tensor.device}")
    got = tensor.shape
    if len(got) != len(shape) or not all(map(_fits, got, shape)):
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise KernelInputError(f"{name} must have shape {wanted}, got {tuple(got)}")
    if tensor.stride(-1) != 1 and got[-1] > 1:
        raise KernelInputError(f"{name} must have its last dimension contiguous, got strides {tensor.stride()}")


def _fits(got: int, want: int | None) -> bool:
    return got > 0 if want is None else got == want
