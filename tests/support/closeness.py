"""Compare arrays everywhere with the same tolerances."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2, "bfloat16": 3e-2}
ABSOLUTE = {"float64": 1e-12, "float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}


def assert_close(found: ArrayLike, wanted: ArrayLike, *, precision: str = "float32") -> None:
    """Same shape, everything finite, and within the tolerance of `precision`; says where it is worst."""
    a: NDArray[np.float64] = np.asarray(found, dtype=np.float64)
    b: NDArray[np.float64] = np.asarray(wanted, dtype=np.float64)
    assert a.shape == b.shape, f"shape {a.shape}, wanted {b.shape}"
    assert np.isfinite(a).all(), f"{np.count_nonzero(~np.isfinite(a))} of {a.size} values are not finite"
    assert np.isfinite(b).all(), "the wanted values are not finite"
    excess = np.abs(a - b) - (ABSOLUTE[precision] + RELATIVE[precision] * np.abs(b))
    if a.size and excess.max() > 0:
        worst = np.unravel_index(int(excess.argmax()), a.shape)
        count = np.count_nonzero(excess > 0)
        place = tuple(int(index) for index in worst)
        raise AssertionError(f"{count} of {a.size} differ; worst at {place}: {a[worst]!r}, wanted {b[worst]!r}")
