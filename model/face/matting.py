"""Mattes of a talking person: alpha, labels and colours without the backdrop's spill, frame by frame.

Three ways, in this order when none is asked for: a chroma key where the backdrop is plain and coloured, a MediaPipe
segmenter where its model file is given, else GrabCut. The outcome names the way taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.alpha_edge import Colours, Plane, component_with, near_px, solve_edge
from model.face.chroma_key import ChromaKey, judge_backdrop
from model.face.face_regions import FaceFrame, Picture, RegionSplitter, face_mask
from model.face.grab_cut import GrabCut
from model.face.segmenter import Segmenter

JUDGED_FRAMES = 5  # spread over the clip, to decide on the backdrop
EDGE_REACH = 0.05  # face heights on both sides of a segmenter's or GrabCut's outline that are solved anew
GUIDE_EPS = 1e-4  # regulariser of the guided filter, colours 0..1
GUIDE_GAIN = 3.0  # steepness of the alpha that the guided outline gives
PERSON_FROM = 0.5  # alpha from which a pixel is labelled as the person


class MattingError(InputError):
    """No matte can be made of this clip in the way that was asked for."""


class Method(StrEnum):
    """How the person is cut out."""

    AUTO = "auto"
    KEY = "key"
    SEGMENTER = "segmenter"
    GRAB_CUT = "grabcut"


@dataclass(frozen=True, slots=True)
class Matte:
    """One frame. `foreground` over any background: `alpha foreground + (1 - alpha) background` (straight alpha)."""

    alpha: NDArray[np.uint8]  # (H, W)
    labels: NDArray[np.uint8]  # (H, W), see `face_regions.Label`
    foreground: Picture  # (H, W, 3) RGB, the backdrop's colour taken out of the edges


class Matting:
    """Mattes consecutive frames of one clip; close it, or use it in a `with`.

    Args:
        method: KEY, SEGMENTER or GRAB_CUT (see `choose_method`).
        segmenter: The model file, for SEGMENTER.

    Raises:
        MattingError: SEGMENTER without a file, or AUTO.
        SegmenterError: The file is missing or is no segmenter.
    """

    def __init__(self, method: Method, *, segmenter: Path | None = None, fps: float = 25.0) -> None:
        if method is Method.AUTO:
            raise MattingError("method auto must be settled by choose_method first")
        if method is Method.SEGMENTER and segmenter is None:
            raise MattingError("method segmenter needs the model file; give selfie_multiclass_256x256.tflite")
        self.method = method
        self._splitter = RegionSplitter()
        self._key = ChromaKey()
        self._cut = GrabCut()
        self._segmenter = Segmenter(segmenter, fps=fps) if method is Method.SEGMENTER and segmenter else None

    def __enter__(self) -> Matting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the segmenter, if any."""
        if self._segmenter is not None:
            self._segmenter.close()

    def frame(self, picture: Picture, landmarks_px: NDArray[np.float32]) -> Matte:
        """Matte of the next frame.

        Args:
            picture: (H, W, 3) uint8 RGB.
            landmarks_px: (478, 2 or 3), pixels.

        Raises:
            MattingError: The face lies outside the picture.
        """
        if not face_mask(landmarks_px, picture.shape).any():
            height, width = picture.shape[:2]
            raise MattingError(
                f"the landmarks lie outside the picture of {width} x {height} pixels: no face to cut out"
            )
        odds: Plane | None = None
        if self._segmenter is not None:
            person, odds = self._segmenter.classes(picture)
            alpha, colours = _refine(picture, person, landmarks_px)
        elif self.method is Method.GRAB_CUT:
            alpha, colours = _refine(picture, self._cut.person(picture, landmarks_px), landmarks_px)
        else:
            alpha, colours = self._key.matte(picture, landmarks_px)
        labels = self._splitter.labels(picture, alpha >= PERSON_FROM, landmarks_px, odds)
        return Matte(_bytes(alpha * 255), labels, _bytes(colours))


@dataclass(frozen=True, slots=True)
class ClipMatte:
    """All frames of a clip."""

    alpha: NDArray[np.uint8]  # (T, H, W)
    labels: NDArray[np.uint8]  # (T, H, W)
    foreground: NDArray[np.uint8]  # (T, H, W, 3)
    method: Method  # the way taken


def choose_method(
    frames: Sequence[Picture], landmarks_px: NDArray[np.float32], method: Method, *, segmenter: Path | None
) -> Method:
    """The way to take: `method` itself, or for AUTO the first that fits the clip.

    Args:
        frames: (H, W, 3) uint8 RGB pictures; a few of them are looked at.
        landmarks_px: (T, 478, 2 or 3), pixels.
        segmenter: The model file, if there is one.

    Raises:
        MattingError: There are no frames, or not as many landmarks as frames.
    """
    if not len(frames) or len(frames) != len(landmarks_px):
        raise MattingError(f"{len(frames)} frames and {len(landmarks_px)} sets of landmarks; need as many, at least 1")
    if method is not Method.AUTO:
        return method
    chosen = np.unique(np.linspace(0, len(frames) - 1, JUDGED_FRAMES).round().astype(int))
    plain = [judge_backdrop(frames[i], landmarks_px[i]).uniform for i in chosen]
    if np.mean(plain) > 0.5:
        return Method.KEY
    return Method.SEGMENTER if segmenter is not None else Method.GRAB_CUT


def iterate_mattes(
    frames: Sequence[Picture],
    landmarks_px: NDArray[np.float32],
    method: Method,
    *,
    segmenter: Path | None = None,
    fps: float = 25.0,
) -> Iterator[Matte]:
    """Mattes one by one, for clips too long to hold; `method` must be settled."""
    with Matting(method, segmenter=segmenter, fps=fps) as matting:
        for picture, points in zip(frames, landmarks_px, strict=True):
            yield matting.frame(picture, points)


def matte_clip(
    frames: Sequence[Picture],
    landmarks_px: NDArray[np.float32],
    *,
    method: Method | str = Method.AUTO,
    segmenter: Path | None = None,
    fps: float = 25.0,
) -> ClipMatte:
    """Matte a whole clip.

    Args:
        frames: (H, W, 3) uint8 RGB pictures of one size, in order.
        landmarks_px: (T, 478, 2 or 3), pixels (no gaps; see `landmarks.fill_gaps`).
        method: "auto", "key", "segmenter" or "grabcut".
        segmenter: Path of a selfie segmentation model.

    Raises:
        MattingError: Unknown method; no frames; counts differ; a segmenter was asked for without its file; a face
            lies outside its picture.
        SegmenterError: The file is missing or is no segmenter.
    """
    try:
        wanted = Method(method)
    except ValueError as error:
        raise MattingError(f"unknown matting method {method!r}; one of {', '.join(Method)}") from error
    way = choose_method(frames, landmarks_px, wanted, segmenter=segmenter)
    mattes = list(iterate_mattes(frames, landmarks_px, way, segmenter=segmenter, fps=fps))
    return ClipMatte(
        np.stack([m.alpha for m in mattes]),
        np.stack([m.labels for m in mattes]),
        np.stack([m.foreground for m in mattes]),
        way,
    )


def _refine(picture: Picture, person: Plane, landmarks_px: NDArray[np.float32]) -> tuple[Plane, Colours]:
    """A soft edge along a rough outline: guided filter (He et al. 2010), then colours unmixed along the rim."""
    frame = FaceFrame.of(landmarks_px)
    reach = max(2, round(EDGE_REACH * frame.height_px))
    face = face_mask(landmarks_px, picture.shape) > 0
    colours = picture.astype(np.float32)
    guided = cv2.ximgproc.guidedFilter(colours / 255, person, reach, GUIDE_EPS)
    sharp = np.asarray(np.clip(0.5 + GUIDE_GAIN * (guided - 0.5), 0, 1), np.float32)
    solid = component_with((guided > 0.5) | face, face).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    inside = cv2.erode(solid, kernel, borderValue=1) > 0
    outside = cv2.dilate(solid, kernel) == 0
    near = near_px(frame.height_px)
    return solve_edge(colours, inside, outside, backdrop=None, rough=sharp, near_px=near)


def _bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
