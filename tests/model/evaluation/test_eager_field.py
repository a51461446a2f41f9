"""The eager field renders what the reference renders, on as many samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.ray_march.reference import render_reference
from kernels.ray_march.synthetic import random_field, random_frame
from model.evaluation.eager_field import EagerField, frame_samples


@pytest.mark.parametrize(("dtype", "least_db"), [(torch.float32, 100.0), (torch.bfloat16, 40.0)])
def test_equals_the_reference(dtype: torch.dtype, least_db: float) -> None:
    field, frame = random_field(1), random_frame(2, 40, 33)
    reference, samples = render_reference(field, frame), frame_samples(field, frame)
    assert len(samples.points) == reference.samples == sum(map(len, samples.rays))
    error = EagerField(field, frame, dtype).picture(samples, (40, 33)) - reference.rgba
    # a ray that rounding ends a sample later or sooner is another matter
    decided = reference.termination_margin > 1e-2
    psnr_db = -10 * np.log10(np.mean(error[decided] ** 2))
    assert psnr_db > least_db
    assert dtype == torch.float32 or psnr_db < 80  # bfloat16 was really used


def test_an_empty_field_is_named() -> None:
    field = random_field(3)
    with pytest.raises(ValueError, match="occupied"):
        frame_samples(replace(field, occupancy=np.zeros_like(field.occupancy)), random_frame(4, 8, 8))
