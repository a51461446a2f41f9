"""The analysis of one clip: a video file in, features in the motion space out, or one clear line about what is wrong.

Order: read, track, refuse what cannot be used, split where the face is lost, and for each stretch head pose, canonical
points, calibration, motion, ARKit, mouth flow, sync, crop and (when asked for) pictures with mattes. `prepare` runs it
in worker processes, locally or on Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.av_sync import SyncConfig, SyncResult, measure_sync, shift_audio
from model.data.clip_head import HEAD_PART, fit_head
from model.data.clip_pictures import clip_pictures, thumbnail
from model.data.clip_types import ClipError, ClipOutcome, ClipSource, Note, Problem, Word
from model.data.features import ClipFeatures, to_sample
from model.data.frame_window import FrameWindow
from model.data.video import SAMPLES_PER_FRAME, ReadSettings, VideoClip, read_video
from model.errors import ConfigError
from model.face.arkit_fit import fit_arkit
from model.face.calibration import calibrate_speaker
from model.face.canonical import canonical_points
from model.face.crop import FaceCrop, plan_crop
from model.face.head_pose import HeadPose, Intrinsics, estimate_head_pose
from model.face.head_shape import HeadShape, load_head_shape
from model.face.landmarks import FaceTrack, LandmarkError, fill_gaps, split_where_lost, track_face
from model.face.matting import MattingError
from model.face.optical_flow import MouthFlow, mouth_flow
from model.face.temporal_filter import filter_points
from model.motion.face_points import EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, MOUTH
from model.motion.space import load_motion_space


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSettings:
    """What is asked of a clip. Angles in degrees, sizes in pixels of the upright picture."""

    face_landmarker: Path
    segmenter: Path | None = None
    head_model: Path | None = None  # head folder (`nerf-lipsync head-model`): also fit FLAME or SMPL-X
    read: ReadSettings = field(default_factory=ReadSettings)
    sync: SyncConfig = field(default_factory=SyncConfig)
    focal_px: float | None = None  # None: from the assumed distance of the subject
    max_gap_frames: int = 5
    min_frames: int = 25
    min_eye_distance_px: float = 24.0
    max_yaw_deg: float = 40.0
    max_roll_deg: float = 45.0  # of the clip's median frame, beyond which it is refused
    profile_share: float = 0.25  # of the frames beyond `max_yaw_deg` from which a clip is refused
    rival_share: float = 0.2  # of the frames with a second face from which a clip is refused
    check_sync: bool = True
    with_flow: bool = True
    with_pictures: bool = False  # 256 px crop video, alpha and labels

    def __post_init__(self) -> None:
        if self.min_frames < 7:
            raise ConfigError(f"min_frames must be at least 7, got {self.min_frames}")
        if self.focal_px is not None and not self.focal_px > 0:
            raise ConfigError(f"focal_px must be positive, got {self.focal_px}")


def analyse_clip(source: ClipSource, settings: AnalysisSettings) -> ClipOutcome:
    """Analyse one clip; what is wrong with it comes back as a problem, never as an exception."""
    try:
        clip = read_video(source, settings.read)
        track = _track(clip, settings)
        _refuse_crowds(source, track, settings)
        stretches = split_where_lost(
            track.found, max_gap_frames=settings.max_gap_frames, min_frames=settings.min_frames
        )
        if not stretches:
            raise _lost(source, track, settings)
        parts = [_analyse_stretch(source, clip, track, first, last, settings) for first, last in stretches]
    except ClipError as error:
        return ClipOutcome(key=source.key, problem=error.problem, message=_message(source, error))
    except MattingError as error:
        return ClipOutcome(key=source.key, problem=Problem.NO_MATTE, message=f"{source.video.name}: {error}")
    return _outcome(source, clip, parts, stretches)


def _message(source: ClipSource, error: ClipError) -> str:
    """One line that names files without their folders, so that it is the same wherever the data set lies."""
    text = " ".join(str(error).split())
    for path in (source.video, source.audio):
        text = text.replace(str(path), path.name) if path is not None else text
    return text


@dataclass(frozen=True)
class _Stretch:
    features: ClipFeatures
    notes: tuple[str, ...]
    thumbnail: bytes
    pictures: dict[str, bytes]


def _track(clip: VideoClip, settings: AnalysisSettings) -> FaceTrack:
    try:
        return track_face(clip.frames(), settings.face_landmarker)
    except LandmarkError as error:
        if "no face" not in str(error):
            raise
        text = f"{clip.path.name}: no face in {clip.frame_count} frames; one face must look at the camera"
        raise ClipError(Problem.NO_FACE, text) from error


def _refuse_crowds(source: ClipSource, track: FaceTrack, settings: AnalysisSettings) -> None:
    share = float(track.second_face.mean())
    if share > settings.rival_share:
        text = f"{source.video.name}: a second face of similar size in {share:.0%} of the frames; film one person alone"
        raise ClipError(Problem.TWO_FACES, text)


def _lost(source: ClipSource, track: FaceTrack, settings: AnalysisSettings) -> ClipError:
    text = (
        f"{source.video.name}: the face is seen in {int(track.found.sum())} of {len(track.found)} frames and never "
        f"{settings.min_frames} in a row; keep it in the picture"
    )
    return ClipError(Problem.FACE_LOST, text)


def _analyse_stretch(
    source: ClipSource, clip: VideoClip, track: FaceTrack, first: int, last: int, settings: AnalysisSettings
) -> _Stretch:
    shape, space = load_head_shape(), load_motion_space()
    found = track.found[first:last]
    landmarks = fill_gaps(track.landmarks[first:last], max_gap_frames=settings.max_gap_frames)
    scores = fill_gaps(track.scores[first:last, :, None], max_gap_frames=settings.max_gap_frames)[..., 0]
    _refuse_small(source, landmarks, settings)
    pose = estimate_head_pose(
        landmarks, shape, size=(clip.width, clip.height), intrinsics=_given_intrinsics(clip, settings)
    )
    _refuse_tilted(source, pose, settings)
    _refuse_profiles(source, pose, settings)
    points = filter_points(canonical_points(landmarks, pose, shape))
    calibration = calibrate_speaker(points)
    motion = calibration.motion(points, space)
    audio = clip.audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
    audio, sync, notes = _in_sync(source, clip, space.lip_opening(motion), audio, settings)
    crop = plan_crop(landmarks, (clip.height, clip.width))
    flow = _flow(clip, landmarks, first, last, settings)
    if not found.all():
        notes = (*notes, f"{Note.GAPS_FILLED} ({int((~found).sum())} frames)")
    features = ClipFeatures(
        key=source.key,
        landmarks=landmarks,
        found=found,
        scores=scores,
        pose=pose,
        motion=motion,
        arkit=fit_arkit(points, calibration, shape),
        mouth_flow=flow.displacement,
        mouth_flow_confidence=flow.confidence,
        audio=audio,
        crop=(crop.matrices[:1] if crop.fixed else crop.matrices).astype(np.float32),
        meta=_meta(source, clip, first, last, sync, notes, shape, space.hash),
    )
    pictures = clip_pictures(clip, first, last, landmarks, crop, settings.segmenter) if settings.with_pictures else {}
    if settings.head_model is not None:
        pictures[HEAD_PART] = fit_head(landmarks, pose.intrinsics, settings.head_model)
    return _Stretch(features, notes, _thumbnail(clip, first, last, crop), pictures)


def _refuse_small(source: ClipSource, landmarks: NDArray[np.float32], settings: AnalysisSettings) -> None:
    eyes = landmarks[:, EYE_CORNERS_LEFT, :2].mean(1) - landmarks[:, EYE_CORNERS_RIGHT, :2].mean(1)
    distance = float(np.median(np.linalg.norm(eyes, axis=1)))
    if distance < settings.min_eye_distance_px:
        text = (
            f"{source.video.name}: {distance:.0f} pixels between the eyes; at least "
            f"{settings.min_eye_distance_px:.0f} are needed: move closer or film larger"
        )
        raise ClipError(Problem.FACE_TOO_SMALL, text)


def _refuse_tilted(source: ClipSource, pose: HeadPose, settings: AnalysisSettings) -> None:
    roll = float(np.median(pose.angles_deg[:, 2]))
    if abs(roll) > settings.max_roll_deg:
        text = (
            f"{source.video.name}: the head lies at {roll:.0f} degrees; the picture seems to be stored on its side and "
            "does not say so: turn the video upright"
        )
        raise ClipError(Problem.ON_ITS_SIDE, text)


def _refuse_profiles(source: ClipSource, pose: HeadPose, settings: AnalysisSettings) -> None:
    yaw = pose.angles_deg[:, 0]
    share = float((np.abs(yaw) > settings.max_yaw_deg).mean())
    if share > settings.profile_share:
        text = (
            f"{source.video.name}: the head is turned beyond {settings.max_yaw_deg:.0f} degrees in {share:.0%} of the "
            f"frames (median {np.median(yaw):.0f}); face the camera"
        )
        raise ClipError(Problem.PROFILE, text)


def _given_intrinsics(clip: VideoClip, settings: AnalysisSettings) -> Intrinsics | None:
    """The focal length given for the upright source picture, at the size that is analysed."""
    if settings.focal_px is None:
        return None
    focal = settings.focal_px * clip.width / clip.info.width
    return Intrinsics(fx_px=focal, fy_px=focal, cx_px=clip.width / 2, cy_px=clip.height / 2)


def _in_sync(
    source: ClipSource,
    clip: VideoClip,
    opening: NDArray[np.float32],
    audio: NDArray[np.int16],
    settings: AnalysisSettings,
) -> tuple[NDArray[np.int16], SyncResult | None, tuple[str, ...]]:
    """The sound moved into sync.

    Raises:
        ClipError: It is further off than can be mended.
    """
    if not clip.info.has_audio and source.audio is None:
        return audio, None, (str(Note.NO_SOUND),)
    if not settings.check_sync:
        return audio, None, ()
    result = measure_sync(opening, audio, settings.sync)
    if not result.judged:
        return audio, result, (f"{Note.SYNC_UNJUDGED} (confidence {result.confidence:.2f})",)
    if abs(result.offset_frames) > settings.sync.accepted_frames:
        text = (
            f"{source.video.name}: sound is {result.offset_frames * 40:+d} ms off the lips (confidence "
            f"{result.confidence:.2f}); at most {settings.sync.accepted_frames * 40} ms can be mended"
        )
        raise ClipError(Problem.OUT_OF_SYNC, text)
    if abs(result.offset_frames) <= settings.sync.left_frames:
        return audio, result, ()
    note = f"{Note.SHIFTED} ({result.offset_frames * 40:+d} ms)"
    return shift_audio(audio, result.offset_frames), result, (note,)


def _flow(
    clip: VideoClip, landmarks: NDArray[np.float32], first: int, last: int, settings: AnalysisSettings
) -> MouthFlow:
    if settings.with_flow:
        return mouth_flow(FrameWindow(clip, first, last), landmarks)
    points = (len(landmarks), len(MOUTH))
    return MouthFlow(np.zeros((*points, 2), np.float32), np.zeros(points, np.float32))


def _meta(
    source: ClipSource,
    clip: VideoClip,
    first: int,
    last: int,
    sync: SyncResult | None,
    notes: Sequence[str],
    shape: HeadShape,
    space_hash: str,
) -> dict[str, Any]:
    words = [
        Word(text=w.text, start_frame=w.start_frame - first, end_frame=w.end_frame - first)
        for w in source.words
        if w.end_frame > first and w.start_frame < last
    ]
    return {
        "speaker": source.speaker,
        "split": source.split,
        "text": source.text,
        "words": [{"text": w.text, "start_frame": w.start_frame, "end_frame": w.end_frame} for w in words],
        "first_frame": first,
        "width_px": clip.width,
        "height_px": clip.height,
        "notes": [*clip.notes, *notes],
        "sync_offset_frames": None if sync is None else sync.offset_frames,
        "sync_confidence": None if sync is None else round(sync.confidence, 3),
        "motion_space": space_hash,
        "head_shape": shape.hash,
    }


def _outcome(
    source: ClipSource,
    clip: VideoClip,
    parts: list[_Stretch],
    stretches: list[tuple[int, int]],
) -> ClipOutcome:
    notes = [*clip.notes, *(note for part in parts for note in part.notes)]
    if len(parts) > 1:
        notes.append(f"{Note.SPLIT} ({len(parts)} parts)")
    keys = [source.key] if len(parts) == 1 else [f"{source.key}_{i:02d}" for i in range(len(parts))]
    samples = tuple(
        to_sample(_renamed(part.features, key), part.pictures) for key, part in zip(keys, parts, strict=True)
    )
    kept = sum(last - first for first, last in stretches)
    angles = np.concatenate([p.features.pose.angles_deg for p in parts])
    sync = [p.features.meta["sync_offset_frames"] for p in parts]
    row = {
        "frames": clip.frame_count,
        "frames_kept": kept,
        "faces_found": int(sum(p.features.found.sum() for p in parts)),
        "yaw_deg": round(float(np.median(angles[:, 0])), 2),
        "pitch_deg": round(float(np.median(angles[:, 1])), 2),
        "roll_deg": round(float(np.median(angles[:, 2])), 2),
        "reprojection_px": round(float(np.mean([p.features.pose.reprojection_px.mean() for p in parts])), 3),
        "sync_offset_frames": sync[0],
        "sync_confidence": parts[0].features.meta["sync_confidence"],
        "flow_confidence": round(float(np.mean([p.features.mouth_flow_confidence.mean() for p in parts])), 3),
        "speaker": source.speaker,
        "split": source.split,
    }
    return ClipOutcome(key=source.key, samples=samples, notes=tuple(notes), row=row, thumbnail=parts[0].thumbnail)


def _renamed(features: ClipFeatures, key: str) -> ClipFeatures:
    return features if features.key == key else replace(features, key=key)


def _thumbnail(clip: VideoClip, first: int, last: int, crop: FaceCrop) -> bytes:
    middle = (first + last) // 2
    return thumbnail(next(clip.frames(middle, middle + 1)), crop, middle - first)
