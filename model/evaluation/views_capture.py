"""An avatar's head turns against truth: frames of a rendered capture that it was not trained on, and a moving camera.

The last frames of `train` are the ones that `train avatar` can hold out; any stretch of `train` is balanced in pose and
expression. `sequence` was never trained on, but its head hardly turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.capture import Capture
from model.errors import DataError
from model.evaluation.capture_stage import HEAD_COVERAGE, CaptureStage
from model.evaluation.image_metrics import box_masks, psnr, ssim
from model.radiance.camera import cam_to_canonical
from model.radiance.serving import AvatarRenderer
from model.results import Figure

__all__ = ["CaptureViews", "head_turn_figures", "held_out_views", "orbit_figures", "sequence_views"]

YAW_BINS_DEG: Final = ((0, 5), (5, 10), (10, 15), (15, 20), (20, 25))
DROP_GOAL_DB, DROP_GOAL_UP_TO_DEG = 1.5, 20
HELD_OUT: Final = "held out"
INTERIOR_LABEL: Final = 3

Frames = NDArray[np.uint8]  # (T, S, S, 3) RGB
Masks = NDArray[np.bool_]  # (T, S, S)


@dataclass(frozen=True)
class CaptureViews:
    """T frames of a capture as an avatar renders them, and as they are."""

    made: Frames
    real: Frames
    head: Masks
    mouth: Masks  # the frame's lip box
    interior: NDArray[np.float32]  # (T, S, S) share of each pixel that the labels give to the mouth's inside
    yaw_deg: NDArray[np.float64]  # (T,) of the head
    exact_px: NDArray[np.float32]  # (T, 68, 2) landmarks projected from the mesh


def held_out_views(capture: Capture, motion: NDArray[np.float32], renderer: AvatarRenderer, count: int) -> CaptureViews:
    """The last `count` frames of `train`.

    Raises:
        DataError: `train` has fewer.
    """
    rows = capture.rows("train")
    if not 0 < count <= len(rows):
        raise DataError(f"the capture has {len(rows)} frames of `train`; {count} cannot be held out")
    return _views(capture, motion, renderer, rows[-count:])


def sequence_views(
    capture: Capture, motion: NDArray[np.float32], renderer: AvatarRenderer, stride: int
) -> CaptureViews:
    """Every `stride`th frame of the sequences.

    Raises:
        DataError: The capture has none.
    """
    return _views(capture, motion, renderer, capture.rows("sequence")[::stride])


def head_turn_figures(views: CaptureViews) -> dict[str, Figure]:
    """Head, mouth and SSIM by the head's yaw, and what each turned bin loses against the frontal one.

    Raises:
        DataError: No frame is frontal: there is nothing to compare with.
    """
    scores = {
        "head_psnr": (psnr(views.made, views.real, views.head), "dB"),
        "mouth_psnr": (psnr(views.made, views.real, views.mouth), "dB"),
        "head_ssim": (ssim(views.made, views.real, views.head), "1"),
    }
    turn = np.abs(views.yaw_deg)
    chosen = {(low, high): (turn >= low) & (turn < high) for low, high in YAW_BINS_DEG}
    if not chosen[YAW_BINS_DEG[0]].any():
        raise DataError(f"none of {len(turn)} frames has a head turned by less than {YAW_BINS_DEG[0][1]} degrees")
    figures = {}
    for name, (values, unit) in scores.items():
        means = {edges: float(np.nanmean(values[rows])) for edges, rows in chosen.items() if rows.any()}
        frontal = means[YAW_BINS_DEG[0]]
        for (low, high), mean in means.items():
            rows, label = chosen[low, high], f"{low}_{high}deg"
            figures[f"turn_{name}_{label}"] = Figure(
                value=round(mean, 4), unit=unit, better="higher", n=int(rows.sum())
            )
            if low and unit == "dB":
                goal = DROP_GOAL_DB if high <= DROP_GOAL_UP_TO_DEG and name == "head_psnr" else None
                figures[f"turn_{name}_drop_{label}"] = Figure(
                    value=round(frontal - mean, 3), unit=unit, goal=goal, better="lower", n=int(rows.sum())
                )
    return figures


def orbit_figures(capture: Capture, motion: NDArray[np.float32], renderer: AvatarRenderer) -> dict[str, Figure]:
    """PSNR of the head layer under a camera that moves around a still head, by the camera's yaw (both sides)."""
    rows = capture.rows("novel")
    if not len(rows):
        return {}
    frames = capture.frames("novel", renderer.size_px, motion)
    found: dict[int, list[float]] = {}
    for index, row in enumerate(rows):
        camera = cam_to_canonical(frames.head_to_world[index], frames.cam_to_world[index], renderer.avatar.config.space)
        seen = renderer.render_head_seen_by(frames.motion[index], frames.rotvec[index], camera)
        head, mask = seen[..., :3], frames.head[index] > HEAD_COVERAGE
        score = float(psnr(np.clip(head, 0, 1)[None], frames.head_only(index)[None, ..., :3], mask[None])[0])
        found.setdefault(round(abs(float(capture.meta["frames"][row]["cam_yaw_deg"]))), []).append(score)
    return {
        f"orbit_head_psnr_{yaw}deg": Figure(
            value=round(float(np.mean(scores)), 2), unit="dB", better="higher", n=len(scores)
        )
        for yaw, scores in sorted(found.items())
    }


def _views(
    capture: Capture, motion: NDArray[np.float32], renderer: AvatarRenderer, rows: NDArray[np.int64]
) -> CaptureViews:
    size = renderer.size_px
    frames = _relabelled(capture, rows).frames(HELD_OUT, size, motion)
    stage, all_rows = CaptureStage(renderer, frames), slice(0, len(frames))
    entries = [capture.meta["frames"][row] for row in rows]
    with np.load(capture.root / "landmarks.npz") as landmarks:
        exact = landmarks["lm2d"][rows] * (size / capture.meta["width"])
    boxes = np.rint(frames.mouth_box).astype(np.int64)
    return CaptureViews(
        made=stage.made(all_rows, frames.motion),
        real=stage.real(all_rows),
        head=stage.head(all_rows),
        mouth=box_masks(boxes, (size, size)),
        interior=np.stack([_interior(capture.root / entry["mask"], size) for entry in entries]),
        yaw_deg=np.array([_yaw_deg(entry) for entry in entries]),
        exact_px=np.asarray(exact, np.float32),
    )


def _relabelled(capture: Capture, rows: NDArray[np.int64]) -> Capture:
    """The capture with some frames in a split of their own, so that only they are read."""
    wanted = set(rows.tolist())
    frames = [{**f, "split": HELD_OUT} if i in wanted else f for i, f in enumerate(capture.meta["frames"])]
    return replace(capture, meta={**capture.meta, "frames": frames})


def _interior(path: Path, size_px: int) -> NDArray[np.float32]:
    labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if labels is None:
        raise DataError(f"cannot read the mask {path}")
    inside = (labels == INTERIOR_LABEL).astype(np.float32)
    return np.asarray(cv2.resize(inside, (size_px, size_px), interpolation=cv2.INTER_AREA), np.float32)


def _yaw_deg(entry: Mapping[str, Any]) -> float:
    """Of R = Ry(yaw) Rx(pitch) Rz(roll)."""
    matrix = entry["head_matrix"]
    return float(np.degrees(np.arctan2(matrix[0][2], matrix[2][2])))
