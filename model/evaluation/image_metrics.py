"""PSNR and SSIM of made frames against real ones: on the whole crop, inside the face, and in a box around the mouth.

SSIM is Wang et al. 2004 with the settings that are the field's norm: a gaussian window of 11 x 11 pixels with sigma
1.5, K1 = 0.01, K2 = 0.03, range 1, each colour channel by itself and then averaged, population covariances, the picture
mirrored at its border. torchmetrics 1.9's `structural_similarity_index_measure` gives the same numbers (a test compares
them); scikit-image and Wang's own code leave out the outer 5 pixels and differ by about 0.001. It is written here
because a masked SSIM needs the map of each frame, and because OpenCV's separable filter takes 5 ms of processor time
for a 256 x 256 frame in 64 bits where torchmetrics takes 35 ms in 32 bits and 470 in 64.

Frames are scored one by one and averaged over a clip: the field's habit for PSNR, too, although the mean of decibels is
not the decibels of the mean. Regions come from the *real* frame, so that all methods are judged in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.tables import Metric

__all__ = ["IMAGE_METRICS", "PSNR_CAP_DB", "box_masks", "image_scores", "mouth_boxes", "psnr", "ssim", "ssim_map"]

PSNR_CAP_DB = 100.0
"""PSNR of identical frames, which would be infinite; far above what any lossy picture reaches (8-bit rounding: 59)."""
WINDOW_PX, SIGMA_PX = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
MOUTH_BOX = 1.5
REGIONS = ("crop", "face", "mouth")

Frames = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]  # RGB; uint8 0..255, floats 0..1
Float64 = NDArray[np.float64]
Masks = NDArray[np.bool_]

_WHERE = {
    "crop": "the whole crop",
    "face": "the face mask of the real frame",
    "mouth": "a box 1.5 times the bounding box of the real frame's lips",
}
IMAGE_METRICS = tuple(
    metric
    for region in REGIONS
    for metric in (
        Metric(
            name=f"psnr_{region}",
            title=f"PSNR, {region}",
            unit="dB",
            better="higher",
            definition=f"-10 log10 of the mean squared error of RGB in 0..1 over {_WHERE[region]}, mean over frames; "
            f"identical frames count {PSNR_CAP_DB:.0f} dB.",
        ),
        Metric(
            name=f"ssim_{region}",
            title=f"SSIM, {region}",
            unit="1",
            better="higher",
            definition="Structural similarity (Wang et al. 2004), gaussian window 11 x 11, sigma 1.5, RGB, range 1: "
            f"mean of the SSIM map over {_WHERE[region]}, mean over frames.",
        ),
    )
)


def psnr(made: Frames, truth: Frames, mask: Masks | None = None) -> Float64:
    """Peak signal-to-noise ratio of each frame, dB, at most `PSNR_CAP_DB`.

    Args:
        made, truth: (T, H, W, 3) RGB; uint8 0..255 or floats 0..1.
        mask: (T, H, W); only its pixels count. None: all.

    Returns:
        (T,); NaN where a frame's mask is empty.

    Raises:
        InputError: The shapes disagree, or floats leave 0..1.
    """
    _check(made, truth, mask)
    scores = np.full(len(made), np.nan)
    for index in range(len(made)):
        squared = (_unit(made[index]) - _unit(truth[index])) ** 2
        inside = squared if mask is None else squared[mask[index]]
        if inside.size:
            floor = 10 ** (-PSNR_CAP_DB / 10)
            scores[index] = -10 * np.log10(max(float(inside.mean()), floor))
    return scores


def ssim(made: Frames, truth: Frames, mask: Masks | None = None) -> Float64:
    """Structural similarity of each frame, -1..1: the mean of `ssim_map` over the frame or the mask.

    Arguments, result and errors are those of `psnr`; pictures must be at least 11 pixels high and wide.
    """
    _check(made, truth, mask)
    scores = np.full(len(made), np.nan)
    for index in range(len(made)):
        found = ssim_map(made[index], truth[index])
        inside = found if mask is None else found[mask[index]]
        if inside.size:
            scores[index] = inside.mean()
    return scores


def ssim_map(made: Frames, truth: Frames) -> Float64:
    """SSIM around each pixel, mean over RGB: (H, W) for two frames (H, W, 3).

    Raises:
        InputError: The shapes disagree, or a side is shorter than the window.
    """
    if made.shape != truth.shape or made.ndim != 3 or made.shape[2] != 3 or min(made.shape[:2]) < WINDOW_PX:
        raise InputError(
            f"SSIM needs two RGB frames (H, W, 3) of at least {WINDOW_PX} px a side, got {made.shape} and {truth.shape}"
        )
    a, b = _unit(made), _unit(truth)
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = np.maximum(_blur(a * a) - mean_a**2, 0)
    var_b = np.maximum(_blur(b * b) - mean_b**2, 0)
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (var_a + var_b + C2)
    return np.asarray((luminance * structure).mean(2), np.float64)


def mouth_boxes(lips_px: NDArray[np.float32], picture_px: tuple[int, int]) -> NDArray[np.int64]:
    """The box around the mouth of each frame: the lips' bounding box, 1.5 times as wide and high about its middle.

    Args:
        lips_px: (T, N, 2 or more) lip landmarks of the real frames; pixel centres at +0.5.
        picture_px: Height and width; boxes end at the picture's edge.

    Returns:
        (T, 4) integers x0, y0, x1, y1, ends exclusive; every pixel that the box touches is inside.

    Raises:
        InputError: The shape is wrong, or a landmark is NaN.
    """
    if lips_px.ndim != 3 or lips_px.shape[1] < 2 or lips_px.shape[2] < 2:
        raise InputError(f"lip landmarks are (T, N, 2), got {lips_px.shape}")
    points = lips_px[..., :2].astype(np.float64)
    if not np.isfinite(points).all():
        frames = int((~np.isfinite(points)).any((1, 2)).sum())
        raise InputError(
            f"lip landmarks are missing in {frames} of {len(points)} frames: fill the gaps or cut them out"
        )
    low, high = points.min(1), points.max(1)
    middle, half = (low + high) / 2, (high - low) / 2 * MOUTH_BOX
    height, width = picture_px
    corners = np.concatenate([np.floor(middle - half), np.ceil(middle + half)], axis=1)
    return np.asarray(np.clip(corners, 0, [width, height, width, height]), np.int64)


def box_masks(boxes: NDArray[np.int64], picture_px: tuple[int, int]) -> Masks:
    """(T, H, W) masks of boxes (T, 4) as `mouth_boxes` gives them."""
    height, width = picture_px
    x, y = np.arange(width), np.arange(height)
    inside_x = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])
    inside_y = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])
    return inside_y[:, :, None] & inside_x[:, None, :]


def image_scores(made: Frames, truth: Frames, regions: Mapping[str, Masks | None]) -> dict[str, float]:
    """`psnr_<region>` and `ssim_<region>` of one clip, mean over the frames that have a value.

    Args:
        made, truth: (T, H, W, 3), as for `psnr`.
        regions: Masks (T, H, W) by name, of `REGIONS`; None: the whole picture.

    Raises:
        InputError: A region is unknown; or as `psnr`.
    """
    scores: dict[str, float] = {}
    for name, mask in regions.items():
        if name not in REGIONS:
            raise InputError(f"unknown region {name!r}: choose from {', '.join(REGIONS)}")
        scores[f"psnr_{name}"] = _mean(psnr(made, truth, mask))
        scores[f"ssim_{name}"] = _mean(ssim(made, truth, mask))
    return scores


def _mean(frames: Float64) -> float:
    known = frames[~np.isnan(frames)]
    return float(known.mean()) if len(known) else float("nan")


def _blur(values: Float64) -> Float64:
    offsets = np.arange(WINDOW_PX) - WINDOW_PX // 2
    window = np.exp(-((offsets / SIGMA_PX) ** 2) / 2)
    window /= window.sum()
    return np.asarray(
        cv2.sepFilter2D(values, cv2.CV_64F, window, window, borderType=cv2.BORDER_REFLECT_101), np.float64
    )


def _unit(frame: Frames) -> Float64:
    scale = 255.0 if frame.dtype == np.uint8 else 1.0
    return frame.astype(np.float64) / scale


def _check(made: Frames, truth: Frames, mask: Masks | None) -> None:
    if made.shape != truth.shape or made.ndim != 4 or made.shape[3] != 3:
        raise InputError(f"frames to compare are both (T, H, W, 3), got {made.shape} and {truth.shape}")
    if mask is not None and (mask.shape != made.shape[:3] or mask.dtype != np.bool_):
        raise InputError(f"a mask of frames {made.shape} is {made.shape[:3]} bool, got {mask.shape} {mask.dtype}")
    for frames in (made, truth):
        if frames.dtype == np.uint8:
            continue
        if not np.issubdtype(frames.dtype, np.floating):
            raise InputError(f"frames are uint8 (0..255) or floats (0..1), got {frames.dtype}")
        if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
            raise InputError(f"frames of {frames.dtype} lie in 0..1, got {frames.min():g}..{frames.max():g}")
