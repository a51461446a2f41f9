"""Shared checks of kernel inputs. Every message names the value received."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class KernelInputError(ValueError):
    """An array or number handed to a kernel has the wrong shape, dtype, layout or range."""


def check_array(
    name: str, array: NDArray[Any], shape: tuple[int | None, ...], dtype: DTypeLike, *, finite: bool = True
) -> None:
    """Check one array. ``None`` in ``shape`` matches any positive length.

    Raises:
        KernelInputError: Not a C-contiguous array of this shape and dtype, or (floats) not finite.
    """
    if not isinstance(array, np.ndarray):
        raise KernelInputError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != np.dtype(dtype):
        raise KernelInputError(f"{name} must be {np.dtype(dtype)}, got {array.dtype}")
    fits = array.ndim == len(shape) and all(
        got > 0 and (want is None or got == want) for got, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise KernelInputError(f"{name} must have shape {wanted}, got {array.shape}")
    if not array.flags.c_contiguous:
        raise KernelInputError(f"{name} must be C-contiguous, got strides {array.strides}")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise KernelInputError(f"{name} must be finite, got {count} values that are not")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Check ``low <= value <= high`` (NaN fails).

    Raises:
        KernelInputError: It is not so.
    """
    if not low <= value <= high:
        raise KernelInputError(f"{name} must be in [{low}, {high}], got {value}")
