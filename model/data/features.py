"""The features of one analysed clip, and how they lie in a shard: one safetensors part, one JSON part.

Landmarks are stored as 16-bit integers at a scale of the clip's own (a 288-pixel clip: 0.01 px), because they are most
of the bytes; everything that follows from them cheaply (canonical points, motion for another calibration) is computed
again when read. Reading never unpickles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from model.data.clip_types import Sample, Word
from model.data.preparing import read_manifest, read_shards
from model.errors import DataError
from model.face.canonical import canonical_points
from model.face.head_pose import HeadPose, Intrinsics
from model.face.head_shape import HeadShape
from model.face.temporal_filter import filter_points

FEATURES_PART = "features.safetensors"
META_PART = "meta.json"
SCHEMA_VERSION = 1
INT16_RANGE = 32_000
Array = NDArray[np.float32]


@dataclass(frozen=True)
class ClipFeatures:
    """A stretch of T frames at 25 fps with one face throughout. Positions are pixels of the upright source picture."""

    key: str
    landmarks: Array  # (T, 478, 3) px
    found: NDArray[np.bool_]  # (T,) False where a gap was filled
    scores: Array  # (T, 52) the tracker's own
    pose: HeadPose
    motion: Array  # (T, 32) by the clip's own calibration
    arkit: Array  # (T, 52)
    mouth_flow: Array  # (T, 78, 2) inter-ocular units from the frame before, head motion removed; row 0 is zero
    mouth_flow_confidence: Array  # (T, 78) 0..1
    audio: NDArray[np.int16]  # (T * 640,) 16 kHz, in sync
    crop: Array  # (T, 2, 3), or (1, 2, 3) where it never moves: source pixels to the 256 px crop
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sound(self) -> Array:
        """The audio as -1..1."""
        return self.audio.astype(np.float32) / 32768.0

    @property
    def speaker(self) -> str:
        """Speaker id, or ""."""
        return str(self.meta.get("speaker", ""))

    @property
    def words(self) -> tuple[Word, ...]:
        """Aligned words, times in frames of this stretch."""
        return tuple(Word(**w) for w in self.meta.get("words", ()))

    def points(self, shape: HeadShape) -> Array:
        """(T, 478, 3) filtered canonical landmarks."""
        return filter_points(canonical_points(self.landmarks, self.pose, shape))


def to_sample(clip: ClipFeatures, pictures: Mapping[str, bytes] | None = None) -> Sample:
    """The sample that stores a clip; `pictures` are further parts (crop video, mattes)."""
    scale = float(np.abs(clip.landmarks).max()) / INT16_RANGE
    camera = clip.pose.intrinsics
    tensors = {
        "landmarks": np.rint(clip.landmarks / scale).astype(np.int16),
        "landmarks_scale_px": np.array([scale], np.float32),
        "found": clip.found.astype(np.uint8),
        "scores": clip.scores.astype(np.float16),
        "rotation": clip.pose.rotation.astype(np.float32),
        "translation_cm": clip.pose.translation.astype(np.float32),
        "frame_rotation": clip.pose.frame_rotation.astype(np.float32),
        "frame_translation_cm": clip.pose.frame_translation.astype(np.float32),
        "reprojection_px": clip.pose.reprojection_px.astype(np.float32),
        "intrinsics_px": np.array([camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px], np.float32),
        "motion": clip.motion.astype(np.float32),
        "arkit": clip.arkit.astype(np.float16),
        "mouth_flow": clip.mouth_flow.astype(np.float16),
        "mouth_flow_confidence": np.rint(clip.mouth_flow_confidence * 255).astype(np.uint8),
        "audio": clip.audio,
        "crop": clip.crop.astype(np.float32),
    }
    meta = {"version": SCHEMA_VERSION, **clip.meta, "intrinsics_estimated": camera.estimated}
    parts = {
        FEATURES_PART: save_tensors({name: np.ascontiguousarray(value) for name, value in tensors.items()}),
        META_PART: json.dumps(meta, sort_keys=True, ensure_ascii=False).encode(),
    }
    return Sample(key=clip.key, parts={**parts, **(pictures or {})})


def from_sample(sample: Sample) -> ClipFeatures:
    """Read a clip back.

    Raises:
        DataError: A part is missing, damaged or of a newer schema.
    """
    try:
        tensors = load_tensors(sample.parts[FEATURES_PART])
        meta = json.loads(sample.parts[META_PART])
        if meta["version"] > SCHEMA_VERSION:
            raise DataError(f"{sample.key} has schema {meta['version']}, this program reads up to {SCHEMA_VERSION}")
        return _from_parts(sample.key, tensors, meta)
    except (KeyError, SafetensorError, json.JSONDecodeError) as error:
        raise DataError(f"sample {sample.key} is damaged or foreign ({error!r}); prepare the data again") from error


def load_clips(folder: Path) -> list[ClipFeatures]:
    """Every prepared clip of a folder, in key order.

    Raises:
        DataError: None is there.
    """
    clips = list(iterate_clips(folder))
    if not clips:
        raise DataError(f"no prepared clips in {folder}; run: nerf-lipsync prepare grid SRC --out {folder}")
    return clips


def iterate_clips(folder: Path, within: range | None = None) -> Iterator[ClipFeatures]:
    """Clips one after another, as they lie in the shards; `within`: those at these positions."""
    if not folder.is_dir() or not any(folder.glob("shard-*.tar")):
        raise DataError(f"no prepared clips in {folder}; run: nerf-lipsync prepare grid SRC --out {folder}")
    for sample in read_shards(folder, within=within):
        yield from_sample(sample)


def count_clips(folder: Path) -> int:
    """How many `iterate_clips` gives, by the manifest."""
    return read_manifest(folder).samples


def clip_speakers(folder: Path) -> list[str]:
    """The speaker of each clip that `iterate_clips` gives; only this is read of them.

    Raises:
        DataError: A sample is damaged or foreign.
    """
    try:
        return [str(json.loads(sample.parts[META_PART]).get("speaker", "")) for sample in read_shards(folder)]
    except (KeyError, json.JSONDecodeError) as error:
        raise DataError(f"a sample in {folder} is damaged or foreign ({error!r}); prepare the data again") from error


def _from_parts(key: str, tensors: dict[str, NDArray[Any]], meta: dict[str, Any]) -> ClipFeatures:
    fx, fy, cx, cy = (float(v) for v in tensors["intrinsics_px"])
    pose = HeadPose(
        tensors["rotation"].astype(np.float64),
        tensors["translation_cm"].astype(np.float64),
        tensors["frame_rotation"].astype(np.float64),
        tensors["frame_translation_cm"].astype(np.float64),
        tensors["reprojection_px"].astype(np.float64),
        Intrinsics(fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy, estimated=bool(meta["intrinsics_estimated"])),
    )
    return ClipFeatures(
        key=key,
        landmarks=tensors["landmarks"].astype(np.float32) * tensors["landmarks_scale_px"],
        found=tensors["found"].astype(np.bool_),
        scores=tensors["scores"].astype(np.float32),
        pose=pose,
        motion=tensors["motion"],
        arkit=tensors["arkit"].astype(np.float32),
        mouth_flow=tensors["mouth_flow"].astype(np.float32),
        mouth_flow_confidence=tensors["mouth_flow_confidence"].astype(np.float32) / 255.0,
        audio=tensors["audio"],
        crop=tensors["crop"],
        meta=meta,
    )
