"""Mattes and mouth flow against a rendered capture's exact masks, alpha and motion.

The first frames of the second sequence are laid over a blue backdrop with a light fall-off (key) and over made-up
clutter (GrabCut); 2.5 levels of noise are added. Edge error is the mean difference of alpha within three pixels of
where the true alpha is soft. Flow is compared at the lip contours in the picture and, as opening speed, in head space.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.capture import Capture
from model.face.head_shape import load_head_shape
from model.face.landmarks import fill_gaps, track_face
from model.face.matting import Method, matte_clip
from model.face.optical_flow import MouthFlow, mouth_flow
from model.motion.face_points import MOUTH
from model.results import Figure

FIRST, COUNT = 75, 40
NOISE_LEVELS = 2.5
LIPS = (0, 13, 17, 14)  # outer and inner upper lip, outer and inner lower lip: middles
Picture = NDArray[np.uint8]


def evaluate_pictures(capture: Path, task_file: Path) -> dict[str, Figure]:
    """All figures."""
    opened = Capture.open(capture)
    rows = opened.rows("sequence")[FIRST : FIRST + COUNT]
    rgba, masks = _read(opened, rows)
    rng = np.random.default_rng(0)
    height, width = masks.shape[1:]
    figures: dict[str, Figure] = {}
    for name, method, backdrop in (
        ("key", Method.KEY, _blue(height, width)),
        ("grabcut", Method.GRAB_CUT, _clutter(height, width, rng)),
    ):
        frames = _over(rgba, backdrop, rng)
        landmarks = fill_gaps(track_face(frames, task_file).landmarks)
        matte = matte_clip(frames, landmarks, method=method)
        figures |= _matte_figures(name, matte.alpha, matte.labels, rgba[..., 3], masks)
        if method is Method.KEY:
            figures |= _flow_figures(opened, rows, mouth_flow(frames, landmarks))
    return figures


def _read(capture: Capture, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(T, H, W, 4) straight RGBA and (T, H, W) labels."""
    entries = [capture.meta["frames"][i] for i in rows]
    pictures = [cv2.imread(str(capture.root / e["file"]), cv2.IMREAD_UNCHANGED) for e in entries]
    masks = [cv2.imread(str(capture.root / e["mask"]), cv2.IMREAD_GRAYSCALE) for e in entries]
    return np.stack([np.asarray(p)[..., [2, 1, 0, 3]] for p in pictures]), np.stack([np.asarray(m) for m in masks])


def _over(rgba: NDArray[np.uint8], backdrop: NDArray[np.float64], rng: np.random.Generator) -> list[Picture]:
    alpha = rgba[..., 3:] / 255.0
    mixed = rgba[..., :3] * alpha + backdrop * (1 - alpha) + rng.normal(0, NOISE_LEVELS, rgba[..., :3].shape)
    return list(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def _blue(height: int, width: int) -> NDArray[np.float64]:
    y, x = np.mgrid[0:height, 0:width] / height
    light = 1.15 - 0.45 * np.hypot(x - 0.25, y - 0.1)
    return np.stack([20 * light, 150 * light, 220 * light], -1)


def _clutter(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Colour noise of four scales and 25 soft boxes."""
    picture = np.full((height, width, 3), 110.0)
    for cells, strength in ((4, 70), (10, 60), (32, 30), (100, 20)):
        noise = rng.normal(size=(cells, cells, 3)) * strength
        picture = picture + cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        corner = rng.integers(0, width, 2)
        colour = [float(c) for c in rng.uniform(0, 255, 3)]
        far = corner + rng.integers(10, 80, 2)
        cv2.rectangle(picture, (int(corner[0]), int(corner[1])), (int(far[0]), int(far[1])), colour, -1)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 1.2), 0, 255)


def _matte_figures(
    name: str,
    alpha: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    true_alpha: NDArray[np.uint8],
    masks: NDArray[np.uint8],
) -> dict[str, Figure]:
    soft = (true_alpha > 5) & (true_alpha < 250)
    band = np.stack([cv2.dilate(s.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0 for s in soft])
    edge = np.abs(alpha.astype(np.float64) - true_alpha)[band].mean() / 255
    regions = {"person": (alpha > 127, true_alpha > 127)}
    regions |= {part: (labels == value, masks == value) for part, value in (("head", 1), ("torso", 2), ("mouth", 3))}
    figures = {
        f"matte_{name}_{part}_iou": Figure(
            value=float((a & b).sum() / max(1, (a | b).sum())), unit="share", better="higher"
        )
        for part, (a, b) in regions.items()
    }
    return figures | {f"matte_{name}_edge_alpha_error": Figure(value=float(edge), unit="of 1", better="lower")}


def _flow_figures(capture: Capture, rows: NDArray[np.int64], flow: MouthFlow) -> dict[str, Figure]:
    """Opening speed from flow against the true one, at the middles of both lips."""
    shape = load_head_shape()
    names = [str(n) for n in capture.meta["coeff_names"]]
    basis = shape.expressions[[shape.expression_names.index(n) for n in names]][:, list(LIPS), 1]
    height = capture.expression(rows) @ basis / shape.inter_ocular_cm
    true = np.diff((height[:, 0] + height[:, 1] - height[:, 2] - height[:, 3]) / 2)
    seen_at = flow.displacement[1:, [MOUTH.index(i) for i in LIPS], 1]
    seen = (seen_at[:, 0] + seen_at[:, 1] - seen_at[:, 2] - seen_at[:, 3]) / 2
    return {
        "flow_opening_speed_r": Figure(value=float(np.corrcoef(true, seen)[0, 1]), unit="r", better="higher"),
        "flow_opening_speed_gain": Figure(
            value=float(np.dot(true, seen) / np.dot(true, true)), unit="1", better="higher"
        ),
        "flow_confident_points": Figure(
            value=100 * float((flow.confidence[1:] > 0.5).mean()), unit="%", better="higher"
        ),
    }
