"""Person, hair, skin and clothes by a MediaPipe Image Segmenter model (Tasks API, video mode).

Made for the multiclass selfie model (background, hair, body skin, face skin, clothes, other); a plain two-class selfie
model works too and tells the person only. The library looks up a telemetry host when it starts; offline tools only.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.alpha_edge import Plane
from model.face.face_regions import Picture

NUM_CLASSES = 6
BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHER = range(NUM_CLASSES)
STILL = 0.3  # a confidence that changes by less is averaged with the frame before
FLOOR = 0.02  # keeps the log-odds of certain pixels finite


class SegmenterError(InputError):
    """A segmenter model that is missing or is not one."""


class Segmenter:
    """Runs over consecutive frames of one clip; close it, or use it in a `with`.

    Raises:
        SegmenterError: The file is missing, unreadable, or has other classes.
    """

    def __init__(self, model_file: Path, *, fps: float = 25.0) -> None:
        if not model_file.is_file():
            raise SegmenterError(f"segmenter model not found: {model_file}; give selfie_multiclass_256x256.tflite")
        self._fps = fps
        self._path = model_file
        self._index = 0
        self._last: Any = None
        self._tool, self._media = _open(model_file)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the model."""
        self._tool.close()

    def classes(self, picture: Picture) -> tuple[Plane, Plane | None]:
        """Person (H, W) 0..1 of the next frame, and the log-odds of head against torso where the model tells.

        Where a confidence hardly changes it is averaged with the last frame's, so that outlines do not flicker.
        """
        image = self._media.Image(image_format=self._media.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        result = self._tool.segment_for_video(image, int(self._index * 1000 / self._fps))
        self._index += 1
        found = np.stack([np.asarray(m.numpy_view(), np.float32).squeeze() for m in result.confidence_masks])
        if len(found) not in (1, 2, NUM_CLASSES):
            raise SegmenterError(f"{self._path}: {len(found)} classes; the selfie models have 1, 2 or {NUM_CLASSES}")
        if found.shape[1:] != picture.shape[:2]:
            size = (picture.shape[1], picture.shape[0])
            found = np.stack([cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in found])
        if self._last is not None and self._last.shape == found.shape:
            found = np.where(np.abs(found - self._last) < STILL, 0.5 * (found + self._last), found)
        self._last = found
        return _person(found), _head_odds(found)


def _person(classes: NDArray[np.float32]) -> Plane:
    """A one-class model tells the person, others the background first."""
    return np.asarray(classes[0] if len(classes) == 1 else 1.0 - classes[BACKGROUND], np.float32)


def _head_odds(classes: NDArray[np.float32]) -> Plane | None:
    """Log-odds of head against torso; bare skin of the body and things worn go by place, so they count for neither."""
    if len(classes) != NUM_CLASSES:
        return None
    head, torso = classes[HAIR] + classes[FACE_SKIN], classes[CLOTHES]
    return np.asarray(2.0 * np.log((head + FLOOR) / (torso + FLOOR)), np.float32)


def _open(model_file: Path) -> tuple[Any, Any]:
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.ImageSegmenterOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(model_file)),
        running_mode=vision.RunningMode.VIDEO,
        output_confidence_masks=True,
        output_category_mask=False,
    )
    try:
        return vision.ImageSegmenter.create_from_options(options), mediapipe
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegmenterError(f"{model_file} is not an image segmenter model: {reason}") from error
