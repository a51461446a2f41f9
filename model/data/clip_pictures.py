"""The 256 x 256 pictures of a clip as parts of its sample: crop (H.264), alpha and labels (FFV1, lossless).

Encoders and containers are told to be bit-exact, so that equal clips give equal bytes.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.frame_window import FrameWindow
from model.data.video import FPS, VideoClip
from model.face.crop import FaceCrop
from model.face.matting import Method, choose_method, iterate_mattes

CROP_PART = "crop.mp4"
ALPHA_PART = "alpha.mkv"
LABELS_PART = "labels.mkv"
CROP_CRF = "12"
THUMBNAIL_PX = 128
THUMBNAIL_QUALITY = 80


def clip_pictures(
    clip: VideoClip, first: int, last: int, landmarks: NDArray[np.float32], crop: FaceCrop, segmenter: Path | None
) -> dict[str, bytes]:
    """The parts by name, for frames [first, last); `crop` and `landmarks` count from `first`."""
    frames = FrameWindow(clip, first, last)
    method = choose_method(frames, landmarks, Method.AUTO, segmenter=segmenter)
    pictures = _Writer("mp4", "libx264", "yuv420p", {"crf": CROP_CRF, "preset": "medium", "x264-params": "threads=1"})
    alphas, labels = (_Writer("matroska", "ffv1", "gray", {"level": "3", "threads": "1"}) for _ in range(2))
    with pictures, alphas, labels:
        mattes = iterate_mattes(frames, landmarks, method, segmenter=segmenter, fps=float(FPS))
        for index, (picture, matte) in enumerate(zip(clip.frames(first, last), mattes, strict=True)):
            pictures.write(crop.apply(picture, index), "rgb24")
            alphas.write(crop.apply(matte.alpha, index), "gray")
            labels.write(_crop_labels(matte.labels, crop, index), "gray")
    return {CROP_PART: pictures.content, ALPHA_PART: alphas.content, LABELS_PART: labels.content}


def thumbnail(picture: NDArray[np.uint8], crop: FaceCrop, frame: int) -> bytes:
    """A small JPEG of the cropped face for the report."""
    small = cv2.resize(crop.apply(picture, frame), (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])
    return bytes(data.tobytes())


def _crop_labels(labels: NDArray[np.uint8], crop: FaceCrop, frame: int) -> NDArray[np.uint8]:
    """Labels are names, not amounts: the commonest counts, so each is cropped as a cover and the largest wins."""
    covers = [crop.apply(np.where(labels == value, 255, 0).astype(np.uint8), frame) for value in range(4)]
    return np.asarray(np.argmax(covers, axis=0), np.uint8)


class _Writer:
    """One video stream into memory."""

    def __init__(self, container: str, codec: str, pixels: str, options: dict[str, str]) -> None:
        self._buffer = io.BytesIO()
        self._container = av.open(self._buffer, "w", format=container, container_options={"fflags": "+bitexact"})
        stream: Any = self._container.add_stream(codec, rate=FPS, options={**options, "flags": "+bitexact"})
        self._stream = stream
        self._stream.pix_fmt = pixels
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def write(self, picture: NDArray[np.uint8], pixels: str) -> None:
        if not self._count:
            self._stream.height, self._stream.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=pixels)
        frame.pts, frame.time_base = self._count, Fraction(1, FPS)
        self._container.mux(self._stream.encode(frame))
        self._count += 1

    @property
    def content(self) -> bytes:
        """The whole file, once closed."""
        return self._buffer.getvalue()
