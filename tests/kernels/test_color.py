"""RGBA over an underlay to I420: native code equals the reference bit by bit, the reference equals BT.601."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.checks import KernelInputError
from kernels.color import composite_i420


def random_image(seed: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Premultiplied RGBA that also leaves 0..1 here and there, and an underlay."""
    rng = np.random.default_rng(seed)
    rgba = rng.uniform(-0.05, 1.05, size=(height, width, 4)).astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:]
    return rgba, rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def planes(i420: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    u, v = i420.ravel()[height * width :].reshape(2, height // 2, width // 2)
    return i420[:height], u, v


@pytest.mark.usefixtures("native")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**20), half_height=st.integers(1, 12), half_width=st.integers(1, 150))
def test_native_equals_reference(isa: str, seed: int, half_height: int, half_width: int) -> None:
    rgba, underlay = random_image(seed, 2 * half_height, 2 * half_width)
    native = composite_i420(rgba, underlay, backend="cpu", instruction_set=isa)
    np.testing.assert_array_equal(native, composite_i420(rgba, underlay, backend="reference"))


@pytest.mark.usefixtures("native")
def test_native_writes_all_and_no_more(isa: str) -> None:
    rgba, underlay = random_image(1, 10, 258)
    room = np.full((17, 258), 77, np.uint8)
    composite_i420(rgba, underlay, room[1:16], instruction_set=isa)
    np.testing.assert_array_equal(room[1:16], composite_i420(rgba, underlay, backend="reference"))
    assert (room[[0, 16]] == 77).all()


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((255, 255, 255), (235, 128, 128)),
        ((255, 0, 0), (81, 90, 240)),
        ((0, 255, 0), (145, 54, 34)),
        ((0, 0, 255), (41, 240, 110)),
    ],
)
def test_bt601_primaries(rgb: tuple[int, int, int], yuv: tuple[int, int, int]) -> None:
    underlay = np.broadcast_to(np.array(rgb, np.uint8), (4, 6, 3)).copy()
    got = planes(composite_i420(np.zeros((4, 6, 4), np.float32), underlay, backend="reference"))
    assert [set(p.ravel().tolist()) for p in got] == [{value} for value in yuv]


def test_compositing_is_over() -> None:
    """A head of alpha 1 hides the underlay; alpha 0 shows it."""
    underlay = np.full((2, 4, 3), 255, np.uint8)
    rgba = np.zeros((2, 4, 4), np.float32)
    rgba[:, :2, 3] = 1.0
    y, _, _ = planes(composite_i420(rgba, underlay, backend="reference"))
    np.testing.assert_array_equal(y, [[16, 16, 235, 235]] * 2)


def test_chroma_is_the_mean_of_four() -> None:
    underlay = np.zeros((2, 2, 3), np.uint8)
    underlay[0, 0, 2] = 255  # a quarter of blue
    _, u, _ = planes(composite_i420(np.zeros((2, 2, 4), np.float32), underlay, backend="reference"))
    assert u[0, 0] == round(128 + 112 / 4)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 3), (1, 2)])
def test_odd_sides_are_refused(height: int, width: int) -> None:
    with pytest.raises(KernelInputError, match=f"{height} x {width}"):
        composite_i420(*random_image(0, height, width))


def test_bad_arrays_are_refused() -> None:
    rgba, underlay = random_image(0, 4, 4)
    with pytest.raises(KernelInputError, match=r"underlay.*\(4, 2, 3\)"):
        composite_i420(rgba, underlay[:, :2].copy())
    with pytest.raises(KernelInputError, match="float64"):
        composite_i420(rgba.astype(np.float64), underlay)  # type: ignore[arg-type]
    with pytest.raises(KernelInputError, match=r"out.*\(4, 4\)"):
        composite_i420(rgba, underlay, np.zeros((4, 4), np.uint8))
