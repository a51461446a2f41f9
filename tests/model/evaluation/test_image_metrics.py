"""PSNR and SSIM: closed forms, masks, boxes, and agreement with torchmetrics."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.image_metrics import (
    C1,
    C2,
    IMAGE_METRICS,
    PSNR_CAP_DB,
    box_masks,
    image_scores,
    mouth_boxes,
    psnr,
    ssim,
    ssim_map,
)
from tests.support.closeness import assert_close


def _pair(height: int = 40, width: int = 56, frames: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    soft = [cv2.GaussianBlur(rng.random((height, width, 3)), (0, 0), 2.0) for _ in range(frames)]
    truth = np.stack([(s - s.min()) / np.ptp(s) for s in soft])
    return np.clip(truth + rng.normal(0, 0.05, truth.shape), 0, 1), truth


def test_psnr_of_an_even_error_of_ten_levels() -> None:
    truth = np.full((3, 8, 8, 3), 100, np.uint8)
    assert_close(psnr(truth + np.uint8(10), truth), np.full(3, 20 * np.log10(25.5)), precision="float64")


def test_psnr_counts_all_channels_and_only_the_mask() -> None:
    truth = np.zeros((1, 4, 4, 3))
    made = truth.copy()
    made[0, 0, 0, 0] = 0.5  # one value of 48, or of the mask's 6
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 0, :2] = True
    assert_close(psnr(made, truth), [-10 * np.log10(0.25 / 48)], precision="float64")
    assert_close(psnr(made, truth, mask), [-10 * np.log10(0.25 / 6)], precision="float64")
    assert_close(psnr(made, truth, ~mask), [PSNR_CAP_DB])


def test_bytes_and_floats_score_alike() -> None:
    made, truth = _pair()
    made8, truth8 = (np.rint(p * 255).astype(np.uint8) for p in (made, truth))
    for score in (psnr, ssim):
        assert_close(score(made8, truth8), score(made8 / 255, truth8 / 255), precision="float64")
        assert_close(score(made8, truth8), score((made8 / 255).astype(np.float32), truth8), precision="float32")


def test_identical_frames_have_the_best_scores() -> None:
    _, truth = _pair()
    assert_close(psnr(truth, truth), np.full(2, PSNR_CAP_DB))
    assert_close(ssim(truth, truth), np.ones(2), precision="float64")


def test_ssim_of_even_pictures_is_its_luminance_term() -> None:
    a, b = np.full((1, 20, 20, 3), 0.25), np.full((1, 20, 20, 3), 0.75)
    assert_close(ssim(a, b), [(2 * 0.25 * 0.75 + C1) / (0.25**2 + 0.75**2 + C1)], precision="float64")


def test_ssim_of_a_negative_is_its_contrast_term_reversed() -> None:
    """Around 0.5 a picture and its negative have means 1 apart in sum, one variance, and minus that as covariance."""
    stripes = 0.5 + 0.2 * np.tile([1.0, -1.0], 20)[None, :, None] * np.ones((40, 40, 3))
    found = ssim_map(stripes, 1 - stripes)[20, 20]
    weights = np.exp(-((np.arange(-5, 6) / 1.5) ** 2) / 2)
    mean = 0.2 * float(weights @ np.tile([1.0, -1.0], 6)[:11] / weights.sum())
    variance = 0.04 - mean**2
    luminance = (2 * (0.25 - mean**2) + C1) / (2 * (0.25 + mean**2) + C1)
    assert_close(found, luminance * (C2 - 2 * variance) / (C2 + 2 * variance), precision="float64")


def test_masked_ssim_is_the_mean_of_the_map_inside() -> None:
    made, truth = _pair()
    made[:, :, :28] = truth[:, :, :28]
    left = np.zeros(made.shape[:3], bool)
    left[:, :, :23] = True  # five columns away from the damage: the window sees none of it
    assert_close(ssim(made, truth, left), np.ones(2), precision="float64")
    both = [ssim(made, truth, mask) * mask.mean((1, 2)) for mask in (left, ~left)]
    assert_close(both[0] + both[1], ssim(made, truth), precision="float64")


def test_ssim_equals_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.functional.image")
    torch = pytest.importorskip("torch")
    made, truth = _pair()
    a, b = (torch.from_numpy(p).permute(0, 3, 1, 2) for p in (made, truth))
    wanted, full = metrics.structural_similarity_index_measure(
        a, b, data_range=1.0, reduction="none", return_full_image=True
    )
    assert_close(ssim(made, truth), wanted.numpy(), precision="float64")
    assert_close(ssim_map(made[0], truth[0]), full[0].mean(0).numpy(), precision="float64")


def test_an_empty_mask_has_no_value_and_does_not_count() -> None:
    made, truth = _pair()
    mask = np.zeros(made.shape[:3], bool)
    mask[1] = True
    for score in (psnr, ssim):
        values = score(made, truth, mask)
        assert np.isnan(values[0]) and values[1] == pytest.approx(score(made, truth)[1])
    scores = image_scores(made, truth, {"crop": None, "face": mask})
    assert scores["psnr_face"] == pytest.approx(psnr(made, truth)[1])
    assert scores["psnr_crop"] == pytest.approx(psnr(made, truth).mean())
    assert set(scores) < {m.name for m in IMAGE_METRICS}


def test_the_mouth_box_is_half_as_large_again_and_stays_in_the_picture() -> None:
    lips = np.array([[[40, 50], [80, 50], [60, 40], [60, 60]], [[0, 0], [20, 0], [10, 30], [10, 0]]], np.float32)
    boxes = mouth_boxes(lips, (70, 100))
    assert boxes.tolist() == [[30, 35, 90, 65], [0, 0, 25, 38]]
    masks = box_masks(boxes, (70, 100))
    assert masks.shape == (2, 70, 100)
    assert masks.sum((1, 2)).tolist() == [60 * 30, 25 * 38]
    assert masks[0, 35, 30] and masks[0, 64, 89] and not masks[0, 65, 30] and not masks[0, 35, 29]


def test_wrong_input_is_refused_in_one_line() -> None:
    made, truth = _pair()
    lips = np.zeros((2, 40, 2), np.float32)
    lips[1, 3] = np.nan
    for match, call in {
        r"\(1, 40, 56, 3\)": lambda: psnr(made[:1], truth),
        "lie in 0..1, got .*1.5": lambda: psnr(made * 0 + 1.5, truth),
        "int64": lambda: psnr(made.astype(np.int64), truth.astype(np.int64)),
        "float64": lambda: psnr(made, truth, np.ones(made.shape[:3])),
        "at least 11 px": lambda: ssim(made[:, :8], truth[:, :8]),
        "unknown region 'nose'": lambda: image_scores(made, truth, {"nose": None}),
        "1 of 2 frames": lambda: mouth_boxes(lips, (40, 56)),
        r"\(T, N, 2\), got \(40, 2\)": lambda: mouth_boxes(lips[0], (40, 56)),
    }.items():
        with pytest.raises(InputError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)
