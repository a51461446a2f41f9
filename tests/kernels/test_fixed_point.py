"""The fixed-point MLP at the ends of its range: nothing overflows, and what does not fit is rendered in float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.native import cpu_info
from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from kernels.ray_march.reference import render_reference
from kernels.ray_march.synthetic import random_field, random_frame

pytestmark = pytest.mark.usefixtures("native")

EXACT_TWIN = {"avx2i16": "avx2", "avx512i16": "avx512"}
FIXED = [name for name in EXACT_TWIN if name in cpu_info().instruction_sets]
PSNR_DB = 66.0  # measured 83 and more on random texels, 70 where everything is at the bound


@pytest.fixture(params=FIXED or [pytest.param("none", marks=pytest.mark.skip(reason="no fixed point on this machine"))])
def fixed(request: pytest.FixtureRequest) -> str:
    """Each fixed-point level that runs here."""
    return str(request.param)


def render(field: FieldArrays, frame: FrameInputs, isa: str) -> NDArray[np.float32]:
    return RayMarcher(field, instruction_set=isa).render(frame)


def psnr_db(field: FieldArrays, frame: FrameInputs, isa: str) -> float:
    """Against the reference, where a hair does not decide at which sample a ray ends."""
    reference = render_reference(field, frame)
    error = (render(field, frame, isa) - reference.rgba)[reference.termination_margin > 3e-3]
    return float(-10 * np.log10(np.mean(error**2) + 1e-12)) if error.size else np.inf


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**20),
    texels=st.sampled_from([1e-3, 1.0, 200.0]),
    layer1=st.sampled_from([1e-4, 1.0, 50.0]),
    layer2=st.sampled_from([1e-4, 1.0, 50.0]),
)
def test_any_scale_of_weights(fixed: str, seed: int, texels: float, layer1: float, layer2: float) -> None:
    """The last layer undoes what the others do, so that outputs stay where color and density vary."""
    field, frame = random_field(seed), random_frame(seed + 1, 16, 16)
    scaled = replace(
        field,
        planes=(field.planes * texels).astype(np.float16),
        w1=field.w1 * np.float32(layer1),
        w2=field.w2 * np.float32(layer2),
        w3=field.w3 / np.float32(texels * layer1 * layer2),
    )
    bias1, bias2 = frame.bias1 * np.float32(texels * layer1), frame.bias2 * np.float32(texels * layer1 * layer2)
    assert psnr_db(scaled, replace(frame, bias1=bias1, bias2=bias2), fixed) > PSNR_DB


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("last_sign", [1.0, -1.0, None])
@pytest.mark.parametrize("third_plane", [1.0, -0.5])
def test_sums_at_the_bound_do_not_overflow(
    fixed: str, sign: float, last_sign: float | None, third_plane: float
) -> None:
    """Every texel and weight at its largest and of one sign: the sums reach what the units were chosen for."""
    field, frame = random_field(1, fill=1.0), random_frame(2, 12, 12)
    planes = np.full_like(field.planes, 60000.0)
    planes[2] *= np.float16(third_plane)
    w3 = field.w3 * np.float32(1e-10) if last_sign is None else np.full_like(field.w3, last_sign * 1e-11)
    full = replace(field, planes=planes, w1=np.full_like(field.w1, 7.0), w2=np.full_like(field.w2, sign * 3.0), w3=w3)
    reach = 60000.0 * 7.0 * 48
    for share in (0.0, 0.2, -0.2):  # of the room for biases
        biased = replace(
            frame,
            bias1=np.full(64, reach * share, np.float32),
            bias2=np.full(64, sign * reach * 3.0 * 64 * share / 10, np.float32),
        )
        assert psnr_db(full, biased, fixed) > PSNR_DB, share


def test_one_weight_only(fixed: str) -> None:
    """An output that hangs on one channel, and channels that hang on nothing."""
    field, frame = random_field(3), random_frame(4, 16, 16)
    w1, w2 = field.w1.copy(), np.zeros_like(field.w2)
    w1[::2] = 0.0
    np.fill_diagonal(w2, 1.0)
    assert psnr_db(replace(field, w1=w1, w2=w2), frame, fixed) > PSNR_DB


@pytest.mark.parametrize("layer", ["w1", "w2", "w3"])
def test_a_layer_of_zeros(fixed: str, layer: str) -> None:
    field, frame = random_field(5), random_frame(6, 16, 16)
    silent = replace(field, **{layer: np.zeros_like(getattr(field, layer))})
    assert psnr_db(silent, frame, fixed) > PSNR_DB


@pytest.mark.parametrize("layer", ["bias1", "bias2"])
def test_biases_that_do_not_fit_are_rendered_in_float(fixed: str, layer: str) -> None:
    """Bit by bit what the level without fixed point renders, and nothing is left behind by such a frame."""
    field, frame = random_field(7), random_frame(8, 20, 20)
    bias = getattr(frame, layer).copy()
    bias[5] = 3e4
    wild = replace(frame, **{layer: bias})
    marcher = RayMarcher(field, instruction_set=fixed)
    before = marcher.render(frame)
    np.testing.assert_array_equal(marcher.render(wild), render(field, wild, EXACT_TWIN[fixed]))
    np.testing.assert_array_equal(marcher.render(frame), before)
    assert (before != render(field, frame, EXACT_TWIN[fixed])).any()  # in fixed point again
