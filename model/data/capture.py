"""Reads a rendered capture folder (capture.json, pictures, label masks, landmarks.npz) for training an avatar.

Pictures become premultiplied RGBA at the training size by an area filter. The motion of every frame comes from a
file made by the motion space (`m` (F, 32) in the order of capture.json's `frames`).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.radiance.camera import CameraConfig, NeckConfig

HEAD_LABELS = (1, 3)  # head with neck, eyes and hair; mouth interior
CACHE_VERSION = 1
ORBIT = "orbit"  # split and kind of frames seen by a moving camera: the torso layer says nothing about them
EYE_LANDMARKS = (slice(36, 42), slice(42, 48))


@dataclass(frozen=True)
class CaptureFrames:
    """F frames at `size_px` squared. Boxes are pixel bounds x0, y0, x1, y1 at that size."""

    size_px: int
    rgba: NDArray[np.uint8]  # (F, S, S, 4) premultiplied
    head: NDArray[np.uint8]  # (F, S, S) coverage of the head labels, 255 = 1
    motion: NDArray[np.float32]  # (F, 32)
    rotvec: NDArray[np.float32]  # (F, 3) radians
    head_to_world: NDArray[np.float64]  # (F, 4, 4)
    cam_to_world: NDArray[np.float64]  # (F, 4, 4)
    mouth_box: NDArray[np.float32]  # (F, 4)
    eye_boxes: NDArray[np.float32]  # (F, 2, 4)
    kind: tuple[str, ...]
    files: tuple[str, ...]
    lens: NDArray[np.float32] | None = None  # (F, 4) fx, fy, cx, cy at `size_px` where frames differ; None: one camera
    clip: NDArray[np.int64] | None = None  # (F,) which clip a frame is from, for exposure; None: all of one

    def __len__(self) -> int:
        return len(self.rgba)

    def first(self, count: int) -> CaptureFrames:
        """The first `count` frames."""
        arrays: dict[str, Any] = {k: v[:count] for k, v in vars(self).items() if isinstance(v, np.ndarray | tuple)}
        return replace(self, **arrays)

    def head_only(self, index: int) -> NDArray[np.float32]:
        """(S, S, 4) premultiplied, 0..1: the picture under the head labels (exact up to mixed border pixels)."""
        rgba = self.rgba[index].astype(np.float32) / 255
        share = self.head[index].astype(np.float32) / 255 / np.maximum(rgba[..., 3], 1e-3)
        return np.asarray(rgba * np.minimum(share, 1)[..., None], np.float32)


@dataclass(frozen=True)
class Capture:
    """The folder's metadata."""

    root: Path
    meta: dict[str, Any]

    @classmethod
    def open(cls, root: Path) -> Capture:
        """Read capture.json.

        Raises:
            DataError: The folder is not a capture.
        """
        path = root / "capture.json"
        try:
            meta = json.loads(path.read_text())
        except OSError as error:
            raise DataError(f"not a capture folder: cannot read {path}: {error.strerror}") from error
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON: {error}") from error
        for key in ("camera", "frames", "neck"):
            if key not in meta:
                raise DataError(f"{path} lacks {key!r}")
        return cls(root, meta)

    def camera(self) -> CameraConfig:
        """The still camera that `train` and `sequence` share."""
        values = self.meta["camera"]
        frame = next(f for f in self.meta["frames"] if f["split"] == "train")
        return CameraConfig(
            size_px=int(self.meta["width"]),
            fx_px=values["fx"],
            fy_px=values["fy"],
            cx_px=values["cx"],
            cy_px=values["cy"],
            cam_to_world=tuple(tuple(row) for row in frame["cam_to_world"]),
        )

    def neck(self) -> NeckConfig:
        """The documented neck blend."""
        values = self.meta["neck"]
        return NeckConfig(
            pivot_low=tuple(values["pivot_low"]),
            pivot_high=tuple(values["pivot_high"]),
            share_low=values["share_low"],
            share_high=values["share_high"],
        )

    def expression(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), len(coeff_names)) rig coefficients."""
        return np.array([self.meta["frames"][i]["coeff"] for i in rows], np.float32)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices into `frames[]` of one split."""
        return np.array([i for i, f in enumerate(self.meta["frames"]) if f["split"] == split], np.int64)

    def frames(self, split: str, size_px: int, motion: NDArray[np.float32], cache: Path | None = None) -> CaptureFrames:
        """Load one split; `motion` (all frames, 32). Pictures are cached as an npz under `cache`.

        Raises:
            DataError: A picture is missing or damaged, or `motion` has another number of rows.
        """
        total = len(self.meta["frames"])
        if motion.shape[0] != total:
            raise DataError(f"capture has {total} frames, the motion file {motion.shape[0]}")
        rows = self.rows(split)
        entries = [self.meta["frames"][i] for i in rows]
        rgba, head = self._pictures(entries, split, size_px, cache)
        ratio = size_px / self.meta["width"]
        with np.load(self.root / "landmarks.npz") as landmarks:
            lips = landmarks["lip_outer2d"][rows] * ratio
            points = landmarks["lm2d"][rows] * ratio
        return CaptureFrames(
            size_px=size_px,
            rgba=rgba,
            head=head,
            motion=np.ascontiguousarray(motion[rows], np.float32),
            rotvec=np.array([f["head_rotvec"] for f in entries], np.float32),
            head_to_world=np.array([f["head_matrix"] for f in entries], np.float64),
            cam_to_world=np.array([f["cam_to_world"] for f in entries], np.float64),
            mouth_box=_padded_box(lips, size_px, 0.25),
            eye_boxes=np.stack([_padded_box(points[:, eye], size_px, 0.45) for eye in EYE_LANDMARKS], 1),
            kind=tuple(ORBIT if f["split"] == ORBIT else str(f.get("kind") or "") for f in entries),
            files=tuple(f["file"] for f in entries),
        )

    def _pictures(
        self, entries: list[dict[str, Any]], split: str, size_px: int, cache: Path | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        key = hashlib.sha256(json.dumps([CACHE_VERSION, size_px, [f["file"] for f in entries]]).encode())
        stored = cache / f"capture-{split}-{size_px}-{key.hexdigest()[:8]}.npz" if cache else None
        if stored and stored.is_file():
            with np.load(stored) as data:
                return data["rgba"], data["head"]
        rgba = np.empty((len(entries), size_px, size_px, 4), np.uint8)
        head = np.empty((len(entries), size_px, size_px), np.uint8)
        for i, entry in enumerate(entries):
            rgba[i], head[i] = _read_picture(self.root / entry["file"], self.root / entry["mask"], size_px)
        if stored:
            stored.parent.mkdir(parents=True, exist_ok=True)
            partial = stored.with_suffix(".part.npz")
            np.savez(partial, rgba=rgba, head=head)
            partial.replace(stored)
        return rgba, head


def join_frames(parts: Sequence[CaptureFrames]) -> CaptureFrames:
    """Several sets of frames as one. Lenses and clip numbers are kept where all sets have them.

    Raises:
        DataError: The sets differ in size, or only some have lenses.
    """
    first = parts[0]
    sizes, with_lens = {p.size_px for p in parts}, {p.lens is None for p in parts}
    if len(sizes) > 1 or len(with_lens) > 1:
        raise DataError(f"frames of {sorted(sizes)} px, some with a lens of their own, cannot be joined")
    arrays = ("rgba", "head", "motion", "rotvec", "head_to_world", "cam_to_world", "mouth_box", "eye_boxes")
    optional = [name for name in ("lens", "clip") if all(getattr(p, name) is not None for p in parts)]
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in (*arrays, *optional)}
    return CaptureFrames(
        size_px=first.size_px,
        kind=tuple(k for p in parts for k in p.kind),
        files=tuple(f for p in parts for f in p.files),
        **joined,
    )


def load_motion(path: Path) -> NDArray[np.float32]:
    """`m` (F, 32) of a motion file.

    Raises:
        DataError: The file is missing or holds no such array.
    """
    try:
        with path.open("rb") as file, np.load(file) as data:
            motion = data["m"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"cannot read motion file {path}: {error}") from error
    except KeyError as error:
        raise DataError(f"{path} holds no array 'm'") from error
    if motion.ndim != 2 or motion.shape[1] != 32:
        raise DataError(f"{path}: motion must be (frames, 32), got {motion.shape}")
    return np.ascontiguousarray(motion, np.float32)


def _read_picture(file: Path, mask: Path, size_px: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    labels = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    if picture is None or labels is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise DataError(f"missing or damaged picture or mask: {file}, {mask}")
    alpha = picture[..., 3:].astype(np.float32)
    premultiplied = np.concatenate([picture[..., 2::-1] * (alpha / 255), alpha], -1)
    coverage = alpha[..., 0] * np.isin(labels, HEAD_LABELS)
    target = (size_px, size_px)
    rgba: NDArray[Any] = cv2.resize(premultiplied, target, interpolation=cv2.INTER_AREA)
    head: NDArray[Any] = cv2.resize(coverage, target, interpolation=cv2.INTER_AREA)
    return _to_bytes(rgba), _to_bytes(head)


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _padded_box(points: NDArray[np.float32], size_px: int, padding: float) -> NDArray[np.float32]:
    """Bounding boxes (F, 4) of points (F, P, 2), grown by a share of the width on each side."""
    low, high = points.min(1), points.max(1)
    pad = padding * (high[:, :1] - low[:, :1])
    return np.asarray(np.clip(np.concatenate([low - pad, high + pad], 1), 0, size_px), np.float32)
