"""Completes a folder of rendered frames to a capture: capture.json, landmarks.npz and the sequences' sound.

The layout is the one that training and evaluation read (`model.data.capture`); docs/capture.md lists it. Only finished
frames are listed, and a sequence only when all its frames are there, so that a part can be packed at any time.
"""

from __future__ import annotations

import json
import os
import wave
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from scripts.capture.camera import DISTANCE, FOV_DEG, TARGET, focal_px
from scripts.capture.errors import RenderError
from scripts.capture.head import LANDMARKS, PIVOT_HIGH, PIVOT_LOW, SHARE_HIGH, SHARE_LOW, HeadRig
from scripts.capture.labels import FrameLabels, FramePoints
from scripts.capture.person import BASE, IDENTITY_WEIGHTS, NAME
from scripts.capture.plan import FPS, SEQUENCE, SPLITS, ClipSound, FramePlan, Plan
from scripts.capture.store import CaptureFolder, RunSettings, write_whole

SAMPLE_RATE_HZ: Final = 16_000
SILENCE: Final = ("sil", "sp")
TIMES: Final = "seconds.txt"  # of each frame, in the work folder
DESCRIPTION: Final = (
    "Rendered capture of a person who does not exist: ICT-FaceKit head, Blender Cycles, mouth and brow motion from "
    "GRID speaker 1"
)
# Sentences about the conventions, as they stand in capture.json.
_TEXTS: Final[dict[str, Any]] = {
    "image_format": "WebP RGBA, straight alpha; train at quality 99, all others lossless, alpha exact",
    "unit": "ICT-FaceKit units, about 1 cm",
    "world": "right-handed: +x = the subject's left (image right in the frontal view), +y up, +z from the face towards "
    "the frontal camera; head-local space equals the world when head_matrix is the identity",
    "labels": {
        "0": "background",
        "1": "head and neck skin, eyes, hair, brows, lashes",
        "2": "torso / clothes",
        "3": "mouth interior (teeth, gums, tongue, oral cavity)",
    },
    "gaze": "[yaw, pitch] in radians in head space; yaw>0 towards the subject's left, pitch>0 up; both eyes rotate "
    "equally; the eyeLook* coefficients move the lids only",
    "motion": {
        "source": "GRID audio-visual corpus, speaker s1",
        "method": "tracked by MediaPipe FaceLandmarker and fitted to ICT-FaceKit's shapes; head rotation and gaze "
        "synthetic, in sequence GRID's rotation plus slow synthetic sway",
    },
    "licence": {
        "images": "see docs/capture.md",
        "geometry": "ICT-FaceKit, MIT, Copyright (c) 2020 USC Institute for Creative Technologies",
        "motion_and_audio": "GRID audiovisual sentence corpus, Cooke, Barker, Cunningham, Shao 2006, CC BY 4.0",
    },
}
_CAMERA_CONVENTION: Final = (
    "OpenCV camera: x right, y down, z forward; cam_to_world maps camera to world; pixel coordinates have the origin "
    "at the outer corner of the top-left pixel, pixel centres at +0.5; u=fx*X/Z+cx, v=fy*Y/Z+cy"
)
_NECK_NOTE: Final = (
    "head_matrix = T_low(0.42*rotvec) * T_high(0.58*rotvec), T_p(r)=rotation by r about p; the neck skin blends from "
    "head_matrix to the identity at the collar"
)


def pack(folder: CaptureFolder, plan: Plan, rig: HeadRig, settings: RunSettings) -> dict[str, int]:
    """Write the labels of all finished frames; returns how many there are of each split.

    Raises:
        RenderError: No frame is finished, or the folder cannot be written.
    """
    frames = [f for f in plan.of_splits(SPLITS) if folder.has(f)]
    if not frames:
        raise RenderError(f"no finished frames in {folder.root}: render some first")
    maker = FrameLabels(rig, plan.coefficient_names, settings.size_px)
    entries, points = zip(*(maker.of(frame) for frame in frames), strict=True)
    counts = {split: sum(f.split == split for f in frames) for split in SPLITS}
    try:
        sequences = [_sequence(folder.root, *found) for found in finished_sequences(frames, plan)]
        _save_landmarks(folder.root / "landmarks.npz", entries, points, maker)
        about = _about(plan, rig, settings, seconds_per_frame(folder)) | {
            "sequences": sequences,
            "counts": counts,
            "frames": list(entries),
        }
        text = json.dumps(about, separators=(",", ":"))
        write_whole(folder.root / "capture.json", lambda partial: partial.write_text(text))
    except OSError as error:
        raise RenderError(f"cannot write the labels to {folder.root}: {error.strerror or error}") from error
    return counts


def finished_sequences(frames: Sequence[FramePlan], plan: Plan) -> list[tuple[str, int, int, ClipSound]]:
    """Clip, first index, frame count and sound of each sequence whose frames are all among `frames`."""
    found = []
    for clip, sound in plan.sounds.items():
        wanted = [f for f in plan.frames if f.split == SEQUENCE and f.notes.get("clip") == clip]
        have = {f.index for f in frames if f.split == SEQUENCE}
        if wanted and all(f.index in have for f in wanted):
            found.append((clip, min(f.index for f in wanted), len(wanted), sound))
    return found


def seconds_per_frame(folder: CaptureFolder) -> dict[str, Any]:
    """Mean and median of the times that rendering noted; empty when it noted none."""
    file = folder.work / TIMES
    times = [float(line.split()[1]) for line in file.read_text().splitlines()] if file.is_file() else []
    if not times:
        return {}
    return {
        "mean": round(float(np.mean(times)), 2),
        "median": round(float(np.median(times)), 2),
        "note": "wall clock per frame and process, one thread each",
    }


def _sequence(root: Path, clip: str, first: int, count: int, sound: ClipSound) -> dict[str, Any]:
    path = root / "audio" / f"{clip}.wav"
    write_whole(path, lambda partial: _save_wav(partial, sound))
    return {
        "clip": clip,
        "first_index": first,
        "count": count,
        "fps": FPS,
        "audio": f"audio/{clip}.wav",
        "transcript": " ".join(word for word, _, _ in sound.words if word not in SILENCE),
        "words": [{"word": word, "start": start, "end": end} for word, start, end in sound.words],
    }


def _save_wav(path: Path, sound: ClipSound) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(sound.audio.astype("<i2").tobytes())


def _save_landmarks(
    path: Path, entries: Sequence[dict[str, Any]], points: Sequence[FramePoints], maker: FrameLabels
) -> None:
    marks, outer = len(LANDMARKS), len(maker.rings.outer)
    cuts = {"lm": slice(0, marks), "lip_outer": slice(marks, marks + outer), "lip_inner": slice(marks + outer, None)}
    arrays: dict[str, Any] = {
        "frame_file": np.array([entry["file"] for entry in entries]),
        "landmark_vertices": np.array(LANDMARKS),
        "lip_outer_vertices": np.array(maker.rings.outer),
        "lip_inner_vertices": np.array(maker.rings.inner),
    }
    pixels = np.array([p.pixels for p in points], np.float32)
    world = np.array([p.world for p in points], np.float32)
    for name, cut in cuts.items():
        arrays[f"{name}2d"], arrays[f"{name}3d"] = pixels[:, cut], world[:, cut]
    partial = path.with_name(f".{path.name}.part.npz")
    np.savez_compressed(partial, **arrays)
    os.replace(partial, path)


def _about(plan: Plan, rig: HeadRig, settings: RunSettings, seconds: dict[str, Any]) -> dict[str, Any]:
    """Everything in capture.json that no single frame decides."""
    return {
        "name": NAME,
        "version": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "description": DESCRIPTION,
        "width": settings.size_px,
        "height": settings.size_px,
        **_TEXTS,
        "camera": _camera(settings.size_px),
        "coeff_names": list(plan.coefficient_names),
        "coeff_base": BASE,
        "identity_weights": list(IDENTITY_WEIGHTS),
        "eyes": [
            {"side": side, "center": center.round(4).tolist(), "radius": round(radius, 4)}
            for side, (center, radius) in zip(("left", "right"), rig.eyes, strict=True)
        ],
        "neck": {
            "pivot_low": list(PIVOT_LOW),
            "pivot_high": list(PIVOT_HIGH),
            "share_low": SHARE_LOW,
            "share_high": SHARE_HIGH,
            "note": _NECK_NOTE,
        },
        "render": {
            "engine": "Blender 4.2.0 (bpy) Cycles CPU",
            "samples": settings.samples,
            "adaptive_threshold": 0.03,
            "denoiser": "OpenImageDenoise",
            "view_transform": "Filmic, Medium High Contrast, exposure -0.05",
            "plan": settings.plan,
            **({"seconds_per_frame": seconds} if seconds else {}),
        },
    }


def _camera(size_px: int) -> dict[str, Any]:
    focal = round(focal_px(size_px), 4)
    return {
        "model": "pinhole, no distortion",
        "fx": focal,
        "fy": focal,
        "cx": size_px / 2,
        "cy": size_px / 2,
        "fov_deg": round(FOV_DEG, 3),
        "distance": DISTANCE,
        "target": list(TARGET),
        "convention": _CAMERA_CONVENTION,
    }
