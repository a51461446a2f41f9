"""The choice of a level: by speed, and never one that is not exact enough for the field."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from kernels.native import EXACT, INSTRUCTION_SETS, cpu_info
from kernels.ray_march import RayMarcher, calibration
from kernels.ray_march.calibration import first_good, levels_by_speed, order_levels, plain_frame
from kernels.ray_march.synthetic import random_field, random_frame

pytestmark = pytest.mark.usefixtures("native")

ROUNDED = [name for name in cpu_info().instruction_sets if name not in EXACT]
needs_rounded = pytest.mark.skipif(not ROUNDED, reason="every level of this machine is float32")


def test_levels_are_this_machines() -> None:
    levels, here = levels_by_speed(), cpu_info().instruction_sets
    assert set(levels) == set(here[1:] or here)
    assert set(levels) & EXACT  # what the others are checked against
    assert levels_by_speed() is levels  # once per process: two scenes of one field are the same bits


def test_every_level_is_exact_or_rounded() -> None:
    assert set(INSTRUCTION_SETS) > EXACT > {"portable"}


def test_faster_goes_first_unless_it_hardly_is() -> None:
    assert order_levels({"avx2": 3.0, "avx2i16": 2.0, "avx512bf16": 1.0}) == ("avx512bf16", "avx2i16", "avx2")
    assert order_levels({"avx2i16": 2.0, "avx2": 2.05}) == ("avx2", "avx2i16")


def test_auto_renders_what_the_chosen_level_renders() -> None:
    field, frame = random_field(1), random_frame(2, 30, 30)
    marcher = RayMarcher(field, sample=random_frame(3, 16, 16))
    assert marcher.instruction_set == levels_by_speed()[0]
    chosen = RayMarcher(field, instruction_set=marcher.instruction_set)
    np.testing.assert_array_equal(marcher.render(frame), chosen.render(frame))


@needs_rounded
@pytest.mark.parametrize("rounded", ROUNDED)
def test_a_level_that_is_not_exact_enough_is_passed_over(
    rounded: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    field, sample = random_field(4), random_frame(5, 24, 24)
    assert first_good(field, (rounded, "avx2"), threads=1, sample=sample).instruction_set == rounded
    monkeypatch.setattr(calibration, "MIN_PSNR_DB", 130.0)
    with caplog.at_level(logging.WARNING):
        assert first_good(field, (rounded, "avx2"), threads=1, sample=sample).instruction_set == "avx2"
    assert rounded in caplog.text


@needs_rounded
def test_wide_planes_are_not_multiplied_out(monkeypatch: pytest.MonkeyPatch) -> None:
    field = random_field(6, plane_side=17)
    monkeypatch.setattr(calibration, "MAX_FIXED_SIDE", 16)
    assert first_good(field, ("avx2i16", "avx2"), threads=1, sample=plain_frame()).instruction_set == "avx2"


def test_the_plain_frame_sees_the_volume() -> None:
    rgba = RayMarcher(random_field(7, fill=1.0), instruction_set="portable").render(plain_frame())
    assert (rgba[..., 3] > 0.5).mean() > 0.2
