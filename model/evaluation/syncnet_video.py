"""Sync-D, Sync-C and offset of video files, by the real SyncNet with weights given by path.

Numbers depend on the crop. `face` cuts as SyncNet's run_pipeline.py does, but around MediaPipe's landmarks instead of
S3FD's boxes and without its detours through XVID and JPEG; `whole` scales the whole frame, as Wav2Lip's
calculate_scores_LRS.py does, for files that are face crops already. Compare only what was cut alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import medfilt

from model.data.video import VideoClip, read_video
from model.errors import InputError
from model.evaluation.report import ReportTable
from model.evaluation.sync_protocol import sync_of_clips
from model.evaluation.syncnet import PICTURE_PX, SYNCNET, Pictures, load_syncnet
from model.evaluation.tables import Metric, MetricTable
from model.face.landmarks import fill_gaps, track_face

__all__ = ["SYNCNET_METRICS", "Crop", "crop_faces", "syncnet_table"]

Crop = Literal["face", "whole"]
CROP_SCALE: Final = 0.4
CROP_FILL: Final = 110
BOX_MEDIAN_FRAMES: Final = 13
SYNCNET_METRICS: Final = (
    Metric(
        name="sync_d",
        title="Sync-D",
        unit="1",
        better="lower",
        definition="SyncNet's smallest mean distance over shifts of +-15 frames (LSE-D; Chung and Zisserman 2016).",
    ),
    Metric(
        name="sync_c",
        title="Sync-C",
        unit="1",
        better="higher",
        definition="Median minus smallest of SyncNet's mean distances over shifts of +-15 frames (LSE-C).",
    ),
    Metric(
        name="sync_offset_frames",
        title="offset",
        unit="frames",
        better="lower",
        ideal=0.0,
        definition="15 minus the index of the smallest mean distance: > 0 when the sound comes too early.",
    ),
)


def syncnet_table(videos: Sequence[Path], weights: Path, *, crop: Crop, face_landmarker: Path | None) -> ReportTable:
    """Scores of each video, 16 kHz mono and 25 fps made of whatever it holds; crops take 9 MB a second.

    `face_landmarker` is MediaPipe's task file, for `crop="face"`.

    Raises:
        InputError: The weights, or a video, cannot be used.
        ModelError: No face was found, or it was lost.
    """
    pair = load_syncnet(weights)
    clips = []
    for video in videos:
        clip = read_video(video)
        clips.append((_crops(clip, crop, face_landmarker), clip.frame_count, clip.audio))
    found = sync_of_clips(pair, clips)
    values = {
        "sync_d": found["distance"],
        "sync_c": found["confidence"],
        "sync_offset_frames": found["offset_frames"],
    }
    table = MetricTable(
        title="SyncNet",
        clips=tuple(v.stem for v in videos),
        metrics=SYNCNET_METRICS,
        values={"video": values},
        notes=(SYNCNET.describe(weights), f"crop: {crop}; numbers of other crops or detectors cannot be compared"),
    )
    return ReportTable(name="syncnet", table=table)


def crop_faces(pictures: Iterable[NDArray[np.uint8]], boxes_px: NDArray[np.floating]) -> Pictures:
    """Crops (T, 224, 224, 3) as SyncNet's run_pipeline.py makes them, of T pictures (H, W, 3).

    `boxes_px` (T, 4): left, top, right, bottom of the face in each picture. Half the longer side b and the centre are
    median-filtered over 13 frames; the crop reaches from b above the centre to 1.8 b below it and 1.4 b to either
    side; beyond the picture lies grey 110.

    Raises:
        InputError: Shapes disagree, a box is empty or off the picture, or there are fewer than 13 pictures.
    """
    half, centre_x, centre_y = _smooth_boxes(boxes_px)
    crops = []
    for index, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[2] != 3 or index >= len(half):
            raise InputError(f"need {len(half)} pictures (H, W, 3), got {picture.shape} as number {index + 1}")
        b, x, y = half[index], centre_x[index], centre_y[index]
        if not (0 <= x < picture.shape[1] and 0 <= y < picture.shape[0]):
            raise InputError(f"the face box of frame {index} has its centre ({x:.0f}, {y:.0f}) outside the picture")
        margin = int(b * (1 + 2 * CROP_SCALE))
        padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), constant_values=CROP_FILL)
        rows = slice(int(y + margin - b), int(y + margin + b * (1 + 2 * CROP_SCALE)))
        columns = slice(int(x + margin - b * (1 + CROP_SCALE)), int(x + margin + b * (1 + CROP_SCALE)))
        crops.append(_resized(padded[rows, columns]))
    if len(crops) != len(half):
        raise InputError(f"got {len(crops)} pictures and {len(half)} boxes")
    return np.stack(crops)


def _smooth_boxes(boxes_px: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """Half the longer side, and the centre, each (T,)."""
    if boxes_px.ndim != 2 or boxes_px.shape[1] != 4 or len(boxes_px) < BOX_MEDIAN_FRAMES:
        raise InputError(f"boxes are (T, 4), T at least {BOX_MEDIAN_FRAMES} to be filtered, got {boxes_px.shape}")
    width, height = boxes_px[:, 2] - boxes_px[:, 0], boxes_px[:, 3] - boxes_px[:, 1]
    if not (np.minimum(width, height) > 0).all():
        worst = int(np.minimum(width, height).argmin())
        raise InputError(f"face boxes need right > left and bottom > top, box {worst} is {boxes_px[worst].tolist()}")
    raw = (np.maximum(width, height) / 2, boxes_px[:, [0, 2]].mean(1), boxes_px[:, [1, 3]].mean(1))
    return tuple(medfilt(values.astype(np.float64), BOX_MEDIAN_FRAMES) for values in raw)


def _crops(clip: VideoClip, crop: Crop, face_landmarker: Path | None) -> Pictures:
    """What SyncNet sees of a clip, in blue, green, red."""
    if crop == "whole":
        return np.stack([_resized(frame[..., ::-1]) for frame in clip.frames()])
    if face_landmarker is None:
        raise InputError("crops of faces need MediaPipe's face_landmarker.task; or take whole frames")
    points = fill_gaps(track_face(clip.frames(), face_landmarker).landmarks)[..., :2]
    boxes = np.concatenate([points.min(1), points.max(1)], axis=1)
    return crop_faces((frame[..., ::-1] for frame in clip.frames()), boxes)


def _resized(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.resize(np.ascontiguousarray(picture), (PICTURE_PX, PICTURE_PX)), np.uint8)
