"""Bad kernel inputs are refused with the value in the message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels.backend import choose_backend
from kernels.checks import KernelInputError, check_array
from kernels.ray_march.arrays import FieldArrays
from kernels.ray_march.synthetic import random_field, random_frame

FIELD = random_field(0)
FRAME = random_frame(0, 8, 8)
NAN = np.full(64, np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planes": FIELD.planes.astype(np.float32)}, "planes must be float16, got float32"),
        ({"planes": FIELD.planes[..., :8].copy()}, r"\(3, 16, 16, 8\)"),
        ({"planes": FIELD.planes[:, :8].copy()}, r"square.*\(3, 8, 16, 16\)"),
        ({"planes": FIELD.planes[:, ::2, ::2]}, "contiguous"),
        ({"planes": np.full_like(FIELD.planes, np.inf)}, "finite, got 12288"),
        ({"w1": FIELD.w1.T.copy()}, r"w1.*\(48, 64\)"),
        ({"w3": FIELD.w3[:3].copy()}, r"w3.*\(3, 64\)"),
        ({"b3": [0.0] * 4}, "b3 must be a NumPy array, got list"),
        ({"occupancy": FIELD.occupancy.astype(np.uint8)}, "uint8"),
        ({"occupancy": FIELD.occupancy[:, :8].copy()}, r"\(16, 8, 16\)"),
        ({"warp_lo": FIELD.warp_hi}, "warp_lo < warp_hi"),
        ({"step": 0.0}, "step must be .* got 0.0"),
        ({"step": float("nan")}, "got nan"),
        ({"termination": 1.0}, "termination .* got 1.0"),
        ({"density_scale": -1.0}, "density_scale .* got -1.0"),
    ],
)
def test_bad_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        replace(FIELD, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias1": NAN}, "bias1 must be finite, got 64"),
        ({"bias2": NAN[:63]}, r"bias2.*\(63,\)"),
        ({"warp": FRAME.warp[:1].copy()}, r"2 to 256.*\(1, 4, 6, 3\)"),
        ({"warp": FRAME.warp.astype(np.float64)}, "float64"),
        ({"cam_to_canonical": 2 * FRAME.cam_to_canonical}, "rotation.* off by 3"),
        ({"fx": 0.0}, "fx .* got 0.0"),
        ({"cx": float("inf")}, "cx .* got inf"),
        ({"height": 0}, "height .* got 0"),
        ({"width": 5000}, "width .* got 5000"),
    ],
)
def test_bad_frame(change: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        replace(FRAME, **change)


def test_occupied_box_is_tight() -> None:
    occupancy = np.zeros((8, 8, 8), np.bool_)
    field: FieldArrays = replace(FIELD, occupancy=occupancy)
    assert field.occupied_box() is None
    occupancy[2, 0, 7] = occupancy[3, 4, 7] = True
    box = field.occupied_box()
    assert box is not None
    np.testing.assert_array_equal(box[0], [-0.5, -1.0, 0.75])
    np.testing.assert_array_equal(box[1], [0.0, 0.25, 1.0])


def test_backend_choice() -> None:
    assert choose_backend("test", "auto", cpu_library=True) == "cpu"
    assert choose_backend("test", "auto", cpu_library=False) == "reference"
    assert choose_backend("test", "reference", cpu_library=True) == "reference"
    with pytest.raises(KernelInputError, match="not built"):
        choose_backend("test", "cpu", cpu_library=False)
    with pytest.raises(KernelInputError, match="'cuda'"):
        choose_backend("test", "cuda", cpu_library=True)  # type: ignore[arg-type]


def test_empty_arrays_are_refused() -> None:
    with pytest.raises(KernelInputError, match=r"\(0, 3\)"):
        check_array("x", np.zeros((0, 3), np.float32), (None, 3), np.float32)
