"""How well faces are read on prepared real video, where no truth is known but some things must hold.

Lip opening after the motion space against the raw landmarks; trembling of a head that keeps still; faces found; sound
and picture in step. Definitions: docs/faces.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.av_sync import measure_sync, shift_audio
from model.data.features import ClipFeatures, load_clips
from model.data.preparing.records import Manifest, Runs, ShardRecord, read_manifest, read_record
from model.evaluation.faces import TREND_FRAMES, still_jitter_deg
from model.motion.face_points import EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, LOWER_LIP_INNER, UPPER_LIP_INNER
from model.motion.space import load_motion_space
from model.results import Figure

SHIFTS_TESTED = (-5, -2, -1, 1, 2, 5)


def evaluate_video_faces(folder: Path) -> dict[str, Figure]:
    """All figures of a folder written by `prepare`."""
    clips = load_clips(folder)
    manifest = read_manifest(folder)
    rows = _rows(folder, manifest)
    frames = sum(int(row["frames"]) for row in rows)
    found = sum(int(row["faces_found"]) for row in rows)
    jitters = np.array([still_jitter_deg(c.pose.rotation) for c in clips])
    slow = np.array([still_jitter_deg(c.pose.rotation, window_frames=TREND_FRAMES) for c in clips])
    raw = np.array([still_jitter_deg(c.pose.frame_rotation) for c in clips])
    return {
        "clips": Figure(value=float(manifest.clips), unit="clips", better="higher"),
        "clips_used": Figure(value=float(manifest.used), unit="clips", better="higher"),
        "frames_with_face": Figure(value=100 * found / frames, unit="%", goal=99.5, better="higher"),
        "lip_opening_against_raw_landmarks_r": Figure(
            value=float(np.mean([_opening_r(c) for c in clips])), unit="r", goal=0.98, better="higher"
        ),
        "still_head_jitter": Figure(
            value=float(np.sqrt(np.nanmean(jitters**2))), unit="deg rms", goal=0.15, better="lower"
        ),
        "still_head_movement_above_1_hz": Figure(
            value=float(np.sqrt(np.nanmean(slow**2))), unit="deg rms", better="lower"
        ),
        "still_head_jitter_before_smoothing": Figure(
            value=float(np.sqrt(np.nanmean(raw**2))), unit="deg rms", better="lower"
        ),
        "reprojection": Figure(
            value=float(np.mean([c.pose.reprojection_px.mean() for c in clips])), unit="px", better="lower"
        ),
        **_sync_figures(clips),
        **_speed(folder),
    }


def raw_lip_opening(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner-lip distance over inter-ocular distance of pixel landmarks (T, 478, 3), nothing removed or smoothed."""
    gap = np.linalg.norm(landmarks[:, UPPER_LIP_INNER, :2] - landmarks[:, LOWER_LIP_INNER, :2], axis=1)
    eyes = landmarks[:, EYE_CORNERS_LEFT, :2].mean(1) - landmarks[:, EYE_CORNERS_RIGHT, :2].mean(1)
    return np.asarray(gap / np.linalg.norm(eyes, axis=1), np.float32)


def _opening_r(clip: ClipFeatures) -> float:
    opening = load_motion_space().lip_opening(clip.motion)
    return float(np.corrcoef(opening, raw_lip_opening(clip.landmarks))[0, 1])


def _sync_figures(clips: Sequence[ClipFeatures]) -> dict[str, Figure]:
    """Offsets as prepared, offsets put in on purpose and found again, and other clips' sound told from the own."""
    space = load_motion_space()
    own = Counter(abs(int(c.meta["sync_offset_frames"] or 0)) for c in clips)
    near = (own[0] + own[1]) / len(clips)
    right = close = 0
    for index, clip in enumerate(clips):
        shift = SHIFTS_TESTED[index % len(SHIFTS_TESTED)]
        result = measure_sync(space.lip_opening(clip.motion), shift_audio(clip.audio, -shift))
        right += result.offset_frames == shift
        close += abs(result.offset_frames - shift) <= 1
    foreign = 0
    for clip, other in zip(clips, [*clips[1:], *clips[:1]], strict=True):
        samples = min(len(clip.audio), len(other.audio))
        opening = space.lip_opening(clip.motion)[: samples // 640]
        foreign += measure_sync(opening, other.audio[:samples]).judged
    return {
        "sync_offset_zero": Figure(value=100 * own[0] / len(clips), unit="% of clips", better="higher"),
        "sync_offset_within_one_frame": Figure(value=100 * near, unit="% of clips", goal=100.0, better="higher"),
        "sync_judged": Figure(
            value=100 * float(np.mean([not _unjudged(c) for c in clips])), unit="% of clips", better="higher"
        ),
        "shift_found_exactly": Figure(value=100 * right / len(clips), unit="% of clips", better="higher"),
        "shift_found_within_one_frame": Figure(value=100 * close / len(clips), unit="% of clips", better="higher"),
        "foreign_sound_believed": Figure(value=100 * foreign / len(clips), unit="% of clips", better="lower"),
    }


def _unjudged(clip: ClipFeatures) -> bool:
    return any(note.startswith("too little speech") for note in clip.meta["notes"])


def _rows(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    rows = []
    for entry in manifest.shards:
        record = read_record(ShardRecord, (folder / entry.name).with_suffix(".json"))
        rows += [clip.row for clip in record.clips if clip.problem is None]
    return rows


def _speed(folder: Path) -> dict[str, Figure]:
    path = folder / "run.json"
    if not path.is_file():
        return {}
    runs = [r for r in read_record(Runs, path).runs if r.complete and r.clips]
    if not runs:
        return {}
    return {"prepare_speed": Figure(value=runs[-1].clips_per_minute, unit="clips/min", better="higher")}
