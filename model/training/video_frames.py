"""Prepared clips of one person as the frames an avatar is trained on.

World axes are the head's at rest (x to the subject's left, y up, z out of the face). One still camera is the avatar's:
the median of the clips' crops, put where the median head stands before it as `head_matrix` of its rotation. What a clip
or frame differs by is in its own lens and in its head's translation.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.data.capture import CaptureFrames, join_frames
from model.data.clip_pictures import ALPHA_PART, CROP_PART, LABELS_PART
from model.data.clip_types import Sample
from model.data.features import ClipFeatures, from_sample
from model.data.preparing import read_shards
from model.errors import DataError
from model.face.calibration import SpeakerCalibration, calibrate_speaker
from model.face.head_shape import OPENCV_FROM_HEAD, HeadShape, load_head_shape
from model.motion.face_points import EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, LIPS_OUTER
from model.motion.space import MotionSpace, load_motion_space
from model.radiance.camera import CameraConfig, HeadPose, NeckConfig, head_matrix

CROP_PX = 256
HEAD_LABELS, TORSO_LABEL = (1, 3), 2
LEAST_TORSO = 0.003  # of the picture: smaller parts are single hairs, or rims where labels were smoothed
MOUTH_CODES = 16
INSIDE_ALPHA = 247  # below it a pixel's color is mixed with the backdrop's and taken from its neighbours inside
WIDE_QUANTILE, CLOSED_QUANTILE = 0.95, 0.10
POSE_SCALE_RAD, SHIFT_SCALE_CM = 0.08, 1.0  # one unit of a mouth code weighs as much when frames are chosen
EYES = ((*EYE_CORNERS_RIGHT, 159, 145), (*EYE_CORNERS_LEFT, 386, 374))

Array = NDArray[np.float32]


@dataclass(frozen=True)
class VideoStage:
    """What all frames of a person share."""

    camera: CameraConfig
    neck: NeckConfig
    rest_pose: HeadPose
    calibration: SpeakerCalibration
    camera_to_world: NDArray[np.float64]  # (4, 4) of every frame


@dataclass(frozen=True)
class PreparedVideo:
    """Frames of a person, and what they share."""

    frames: CaptureFrames
    stage: VideoStage
    keys: tuple[str, ...]  # of the clips, by `frames.clip`


def load_video(
    prepared: Path,
    *,
    most_frames: int,
    held_out: Sequence[str] = (),
    shape: HeadShape | None = None,
    soft_edges: bool = False,
) -> PreparedVideo:
    """The training frames of a folder made by `prepare --pictures`: at most `most_frames`, spread over pose and mouth.
    With `soft_edges` the head has the fainter half of its edge as well (`head_cover`).

    Raises:
        DataError: There are no clips left, or they were prepared without pictures.
    """
    shape, space = shape or load_head_shape(), load_motion_space()
    clips = [clip for clip in _features(prepared) if clip.key not in held_out]
    if not clips:
        raise DataError(f"no clips to train on in {prepared} ({len(held_out)} held out)")
    stage = stage_of(clips, shape)
    motions = [stage.calibration.motion(clip.points(shape), space) for clip in clips]
    chosen = _choose(clips, motions, stage, most_frames)
    parts = [
        clip_frames(sample, features, motion, stage, np.flatnonzero(mask), number, space, soft_edges)
        for number, (sample, features, motion, mask) in enumerate(_joined(prepared, clips, motions, chosen))
        if mask.any()
    ]
    return PreparedVideo(join_frames(parts), stage, tuple(clip.key for clip in clips))


def stage_of(clips: Sequence[ClipFeatures], shape: HeadShape) -> VideoStage:
    """Camera, rest pose and calibration of a person from all of his clips."""
    rotations = np.concatenate([clip.pose.rotation for clip in clips])
    shifts = np.concatenate([clip.pose.translation for clip in clips])
    lenses = np.concatenate([_lenses(clip) for clip in clips])
    neck = NeckConfig()
    turns = Rotation.from_matrix(OPENCV_FROM_HEAD @ rotations)
    mean = turns.mean()
    yaw, pitch, roll = (float(v) for v in mean.as_euler("YXZ", degrees=True))
    world = np.eye(4)
    world[:3, :3] = OPENCV_FROM_HEAD
    world[:3, 3] = head_matrix(mean.as_rotvec(), neck)[:3, 3] - OPENCV_FROM_HEAD @ np.median(shifts, 0)
    fx, fy, cx, cy = (float(v) for v in np.median(lenses, 0))
    camera = CameraConfig(
        size_px=CROP_PX,
        fx_px=fx,
        fy_px=fy,
        cx_px=cx,
        cy_px=cy,
        cam_to_world=tuple((float(r[0]), float(r[1]), float(r[2]), float(r[3])) for r in world),
    )
    calibration = calibrate_speaker(np.concatenate([clip.points(shape) for clip in clips]))
    return VideoStage(camera, neck, HeadPose(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll), calibration, world)


def clip_frames(
    sample: Sample,
    clip: ClipFeatures,
    motion: Array,  # (T, 32)
    stage: VideoStage,
    rows: NDArray[np.int64],  # the frames wanted, rising
    number: int,
    space: MotionSpace,
    soft_edges: bool = False,
) -> CaptureFrames:
    """Some frames of one clip at 256 px.

    Raises:
        DataError: The clip was prepared without pictures.
    """
    if CROP_PART not in sample.parts:
        raise DataError(f"clip {clip.key} has no pictures; prepare it again with --pictures")
    rgba, head = _pictures(sample, rows, soft_edges)
    to_world = head_to_world(clip, stage)[rows]
    matrices = np.broadcast_to(clip.crop, (len(clip.landmarks), 2, 3))[rows]
    points = clip.landmarks[rows, :, :2] * matrices[:, None, [0, 1], [0, 1]] + matrices[:, None, :, 2]
    return CaptureFrames(
        size_px=CROP_PX,
        rgba=rgba,
        head=head,
        motion=np.ascontiguousarray(motion[rows]),
        rotvec=Rotation.from_matrix(to_world[:, :3, :3]).as_rotvec().astype(np.float32),
        head_to_world=to_world,
        cam_to_world=np.broadcast_to(stage.camera_to_world, (len(rows), 4, 4)).copy(),
        mouth_box=_box(points[:, list(LIPS_OUTER)], 0.25),
        eye_boxes=np.stack([_box(points[:, list(eye)], 0.45) for eye in EYES], 1),
        kind=tuple(_kinds(space.lip_opening(motion))[rows].tolist()),
        files=tuple(f"{clip.key}/{int(row)}" for row in rows),
        lens=_lenses(clip)[rows].astype(np.float32),
        clip=np.full(len(rows), number, np.int64),
    )


def head_to_world(clip: ClipFeatures, stage: VideoStage) -> NDArray[np.float64]:
    """(T, 4, 4) of a clip's frames, by its smoothed pose."""
    pose = np.tile(np.eye(4), (len(clip.landmarks), 1, 1))
    pose[:, :3, :3], pose[:, :3, 3] = clip.pose.rotation, clip.pose.translation
    return np.asarray(stage.camera_to_world @ pose, np.float64)


def farthest_points(points: Array, count: int, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of (N, D) points: `start` and then always the one farthest from all chosen, `count` in all."""
    chosen = [int(i) for i in start[:count]] or [0]
    distance = np.full(len(points), np.inf)
    for i in chosen:
        distance = np.minimum(distance, ((points - points[i]) ** 2).sum(1))
    while len(chosen) < min(count, len(points)):
        i = int(distance.argmax())
        chosen.append(i)
        distance = np.minimum(distance, ((points - points[i]) ** 2).sum(1))
    return np.array(sorted(chosen), np.int64)


def _features(prepared: Path) -> Iterator[ClipFeatures]:
    for sample in read_shards(prepared):
        yield from_sample(sample)


def _joined(
    prepared: Path, clips: Sequence[ClipFeatures], motions: Sequence[Array], masks: Sequence[NDArray[np.bool_]]
) -> Iterator[tuple[Sample, ClipFeatures, Array, NDArray[np.bool_]]]:
    known = {clip.key: i for i, clip in enumerate(clips)}
    for sample in read_shards(prepared):
        if sample.key in known:
            i = known[sample.key]
            yield sample, clips[i], motions[i], masks[i]


def _lenses(clip: ClipFeatures) -> NDArray[np.float64]:
    """(T, 4) fx, fy, cx, cy in pixels of the crop."""
    camera, frames = clip.pose.intrinsics, len(clip.landmarks)
    matrices = np.broadcast_to(clip.crop, (frames, 2, 3)).astype(np.float64)
    scale, shift = matrices[:, 0, 0], matrices[:, :, 2]
    return np.stack(
        [
            camera.fx_px * scale,
            camera.fy_px * scale,
            camera.cx_px * scale + shift[:, 0],
            camera.cy_px * scale + shift[:, 1],
        ],
        1,
    )


def _choose(
    clips: Sequence[ClipFeatures], motions: Sequence[Array], stage: VideoStage, most: int
) -> list[NDArray[np.bool_]]:
    found = np.concatenate([clip.found for clip in clips])
    poses = np.concatenate([head_to_world(clip, stage) for clip in clips])
    rotvec = Rotation.from_matrix(poses[:, :3, :3]).as_rotvec()
    shifts = poses[:, :3, 3]
    points = np.concatenate(
        [
            np.concatenate(motions),
            rotvec / POSE_SCALE_RAD,
            (shifts - np.median(shifts, 0)) / SHIFT_SCALE_CM,
        ],
        1,
    ).astype(np.float32)
    usable = np.flatnonzero(found)
    picked = usable[farthest_points(points[usable], most, np.array([0]))] if len(usable) > most else usable
    mask = np.zeros(len(points), np.bool_)
    mask[picked] = True
    ends = np.cumsum([len(m) for m in motions])
    return np.split(mask, ends[:-1])


def _kinds(opening: Array) -> NDArray[np.str_]:
    kinds = np.full(len(opening), "video", dtype="<U6")
    kinds[opening >= np.quantile(opening, WIDE_QUANTILE)] = "wide"
    kinds[opening <= np.quantile(opening, CLOSED_QUANTILE)] = "closed"
    return kinds


def _pictures(sample: Sample, rows: NDArray[np.int64], soft_edges: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Premultiplied RGBA (F, 256, 256, 4) and the head's cover (F, 256, 256)."""
    colors = decode(sample.parts[CROP_PART], "rgb24", rows)
    alphas = decode(sample.parts[ALPHA_PART], "gray", rows)
    labels = decode(sample.parts[LABELS_PART], "gray", rows)
    rgba = np.empty((len(rows), CROP_PX, CROP_PX, 4), np.uint8)
    for i, (color, alpha) in enumerate(zip(colors, alphas, strict=True)):
        inner = spread_inside(color, alpha)
        rgba[i, ..., :3] = np.rint(inner * (alpha[..., None].astype(np.float32) / 255))
        rgba[i, ..., 3] = alpha
    if not soft_edges:
        return rgba, np.where(np.isin(labels, HEAD_LABELS), alphas, 0).astype(np.uint8)
    return rgba, np.stack([head_cover(alpha, label) for alpha, label in zip(alphas, labels, strict=True)])


def head_cover(alpha: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) alpha where it is the head's.

    Labels name only what is more person than backdrop. The fainter half of a soft edge belongs to what it borders on:
    left to the torso layer, the hair's edge would stand still while the head turns. So would specks of torso in it.
    """
    labels = np.where(_crumbs(labels == TORSO_LABEL), HEAD_LABELS[0], labels).astype(np.uint8)
    named = labels > 0
    _, place = cv2.distanceTransformWithLabels(
        (~named).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    names = np.zeros(int(place.max()) + 1, np.uint8)
    names[place[named]] = labels[named]
    return np.where(np.isin(names[place], HEAD_LABELS), alpha, 0).astype(np.uint8)


def _crumbs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Parts (H, W) of a mask that are too small for a torso."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    small = stats[:count, cv2.CC_STAT_AREA] < LEAST_TORSO * mask.size
    small[0] = False
    return np.asarray(small[parts], np.bool_)


def spread_inside(color: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3): colors at the soft border taken from the nearest pixels that are the person's alone."""
    inside = (alpha >= INSIDE_ALPHA).astype(np.float32)
    values = color.astype(np.float32)
    weight = cv2.GaussianBlur(inside, (0, 0), 2.0)
    spread = cv2.GaussianBlur(values * inside[..., None], (0, 0), 2.0) / np.maximum(weight, 1e-4)[..., None]
    known = (inside > 0)[..., None]
    return np.asarray(np.where(known, values, np.where(weight[..., None] > 1e-3, spread, values)), np.float32)


def decode(data: bytes, pixels: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The wanted frames of a video part."""
    wanted, last = {int(row) for row in rows}, int(rows[-1])
    found = []
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                found.append(frame.to_ndarray(format=pixels))
            if index >= last:
                break
    if len(found) != len(rows):
        raise DataError(f"a picture part has {len(found)} of {len(rows)} frames wanted; prepare the clip again")
    return np.stack(found).astype(np.uint8)


def _box(points: Array, padding: float) -> Array:
    low, high = points.min(1), points.max(1)
    pad = padding * (high[:, :1] - low[:, :1])
    return np.asarray(np.clip(np.concatenate([low - pad, high + pad], 1), 0, CROP_PX), np.float32)
