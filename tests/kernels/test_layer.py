"""A displaced layer over a background: native equals the reference, and moves the way it is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.checks import KernelInputError
from kernels.layer import warp_layer
from kernels.layer.slots import warp_layer_slots


def random_scene(
    seed: int, side: int, nodes: int, height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    alpha = rng.integers(0, 256, (side, side, 1))
    layer = np.concatenate([rng.integers(0, 256, (side, side, 3)) * alpha // 255, alpha], 2).astype(np.uint8)
    grid = rng.normal(0, 0.3, (nodes, nodes, 2)).astype(np.float32)
    return layer, grid, rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.usefixtures("native")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**20),
    side=st.integers(1, 33),
    nodes=st.integers(2, 9),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_native_equals_reference(seed: int, side: int, nodes: int, height: int, width: int) -> None:
    scene = random_scene(seed, side, nodes, height, width)
    native, reference = warp_layer(*scene, backend="cpu"), warp_layer(*scene, backend="reference")
    assert np.abs(native.astype(int) - reference).max() <= 1


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_no_displacement_is_the_plain_composite(backend: str) -> None:
    layer, grid, background = random_scene(1, 24, 5, 24, 24)
    got = warp_layer(layer, grid * 0, background, backend=backend)  # type: ignore[arg-type]
    wanted = layer[..., :3] + (1 - layer[..., 3:] / 255) * background
    assert np.abs(got - wanted).max() <= 0.5 + 1e-6


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_shift_by_whole_pixels_moves_the_picture(backend: str) -> None:
    layer, _, background = random_scene(2, 20, 2, 20, 20)
    layer[..., 3] = 255
    grid = np.zeros((2, 2, 2), np.float32)
    grid[..., 0] = 2 * 3 / 20  # reads three pixels to the right
    got = warp_layer(layer, grid, background, backend=backend)  # type: ignore[arg-type]
    np.testing.assert_array_equal(got[:, :17], layer[:, 3:, :3])


def test_bad_input_is_named() -> None:
    layer, grid, background = random_scene(3, 8, 3, 8, 8)
    broken = grid.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(KernelInputError, match=r"finite, got 1"):
        warp_layer(layer, broken, background)
    with pytest.raises(KernelInputError, match="square"):
        warp_layer(np.ascontiguousarray(layer[:5]), grid, background)
    with pytest.raises(KernelInputError, match="nodes"):
        warp_layer(layer, np.zeros((1, 1, 2), np.float32), background)


def test_many_on_tensors_equal_one_by_one() -> None:
    """Pictures of other sides than the layer's, displaced beyond the edges too, within one level."""
    rng = np.random.default_rng(4)
    layer = rng.integers(0, 256, (3, 20, 20, 4), dtype=np.uint8)
    layer[..., :3] = np.minimum(layer[..., :3], layer[..., 3:])
    grid = rng.normal(0.0, 0.3, (3, 9, 9, 2)).astype(np.float32)
    background = rng.integers(0, 256, (3, 14, 22, 3), dtype=np.uint8)
    got = warp_layer_slots(*(torch.from_numpy(array) for array in (layer, grid, background))).numpy()
    for i in range(3):
        wanted = warp_layer(layer[i], grid[i], background[i], backend="reference")
        assert np.abs(got[i].astype(int) - wanted).max() <= 1
    empty = warp_layer_slots(*(torch.from_numpy(array[:0]) for array in (layer, grid, background)))
    assert empty.shape == (0, 14, 22, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": torch.zeros(2, 9, 9, 2).double()}, "grid must be torch.float32, got torch.float64"),
        ({"layer": torch.zeros(2, 8, 6, 4, dtype=torch.uint8)}, r"layer must be square, got \(2, 8, 6, 4\)"),
        ({"background": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)}, r"background must have shape \(2, ., ., 3\)"),
    ],
)
def test_many_of_other_shapes_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    arguments = {
        "layer": torch.zeros(2, 8, 8, 4, dtype=torch.uint8),
        "grid": torch.zeros(2, 9, 9, 2),
        "background": torch.zeros(2, 8, 8, 3, dtype=torch.uint8),
    }
    with pytest.raises(KernelInputError, match=message):
        warp_layer_slots(**(arguments | change))
