"""How the mouth moves between frames as the picture itself shows it, independent of the landmark tracker's own changes.

Dense optical flow (DIS, Kroeger et al. 2016, or RAFT, Teed and Deng 2020) runs on a patch of mouth, jaw and cheeks cut
out of consecutive frames by the head's own similarity, so that only the face's motion is left for it. The flow is read
at the mouth landmarks of the earlier frame; start and end are laid into head space by their own frames' alignment.
Confidence is the agreement of forward and backward flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.pose_free import Points, head_alignment, image_to_head_axes
from model.motion.face_points import MOUTH, RIGID
from model.motion.space import load_motion_space

PATCH_PX = 160  # side of the square patch that flow runs on: the best of 128..320 with DIS medium
PATCH_MARGIN = 0.25  # inter-ocular distances around the template's mouth landmarks
AGREEMENT_SIGMA = 0.01  # forward-backward error of confidence exp(-1), inter-ocular distances
CONFIDENT = 0.5
UPPER_LIP = (13, 82, 312, 0, 37, 267)  # the middle of the upper lip, inner and outer rim
LOWER_LIP = (14, 87, 317, 17, 84, 314)

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
Field = NDArray[np.float32]  # (H, W, 2): displacement in x (right) and y (down), pixels


class FlowError(InputError):
    """Frames and landmarks do not fit, or a flow model cannot be used."""


class FlowEstimator(Protocol):
    """Dense flow of a pair of pictures of one size."""

    def flow(self, first: Picture, second: Picture) -> Field:
        """Where each pixel of `first` lies in `second`, relative to where it was."""


class DisFlow:
    """OpenCV's dense inverse search, preset medium (which preset: see docs/optical-flow.md)."""

    def __init__(self, preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM) -> None:
        self._search = cv2.DISOpticalFlow.create(preset)

    def flow(self, first: Picture, second: Picture) -> Field:
        """See `FlowEstimator`."""
        before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (first, second))
        start: Any = None  # allowed, though OpenCV's types do not say so
        return np.asarray(self._search.calc(before, after, start), np.float32)


@dataclass(frozen=True, slots=True)
class MouthFlow:
    """Motion of the 78 `MOUTH` landmarks from frame t - 1 to t, in row t. Row 0 is zero, with confidence 0."""

    displacement: NDArray[np.float32]  # (T, 78, 2): x to the subject's left, y up, inter-ocular distances
    confidence: NDArray[np.float32]  # (T, 78), 0..1


@dataclass(frozen=True, slots=True)
class FlowAgreement:
    """How well flow and tracked landmarks tell the same story of a clip."""

    correlation: float  # of the lip-opening speeds, -1..1; NaN if the lips never move or fewer than 3 frames count
    confident_share: float  # of all points and frames but the first, 0..1


def mouth_flow(
    frames: Sequence[Picture],
    landmarks_px: Points,
    *,
    estimator: FlowEstimator | None = None,
    template: NDArray[np.float32] | None = None,
    patch_px: int = PATCH_PX,
) -> MouthFlow:
    """Pose-free displacement of the mouth landmarks by optical flow.

    Args:
        frames: (H, W, 3) uint8 RGB pictures in order.
        landmarks_px: (T, 478, 3), pixels, without gaps.
        estimator: DIS if not given.
        template: (478, 3) face that gives units and axes; the motion space's if not given.
        patch_px: Side of the patch; RAFT needs a multiple of 8 from 128.

    Raises:
        FlowError: Counts differ, or landmarks are missing.
    """
    if len(frames) != len(landmarks_px) or not len(frames):
        raise FlowError(f"{len(frames)} frames and {len(landmarks_px)} sets of landmarks; need as many, at least 1")
    if not np.isfinite(landmarks_px).all():
        raise FlowError("some frames have no landmarks; fill the gaps or cut them out")
    shape = load_motion_space().template if template is None else template
    mouth = list(MOUTH)
    cutter = _PatchCutter(landmarks_px, shape, patch_px)
    chosen = estimator or DisFlow()
    ends = landmarks_px[:, mouth].copy()  # depth stays the tracker's
    confidence = np.zeros(ends.shape[:2], np.float32)
    patch = cutter.patch(frames[0], 0)
    for t in range(1, len(frames)):
        earlier, patch = patch, cutter.patch(frames[t], t)
        start = cutter.to_patch(landmarks_px[t - 1, mouth, :2], t - 1)
        end, error = _track(chosen, earlier, patch, start)
        ends[t, :, :2] = cutter.to_source(end, t)
        confidence[t] = np.exp(-((error / (AGREEMENT_SIGMA * cutter.scale)) ** 2))
    alignment = head_alignment(image_to_head_axes(landmarks_px), shape)
    before = alignment.apply(image_to_head_axes(landmarks_px[:, mouth]))
    after = alignment.apply(image_to_head_axes(ends))
    displacement = np.zeros((*confidence.shape, 2), np.float32)
    displacement[1:] = (after[1:] - before[:-1])[..., :2]
    return MouthFlow(displacement, confidence)


def flow_agreement(
    flow: MouthFlow, landmarks_px: Points, *, template: NDArray[np.float32] | None = None
) -> FlowAgreement:
    """Compare the speed of the lip opening in the flow with that of the tracked landmarks (T, 478, 3).

    Opening is the distance of the lips' middles, each a mean of six points: a single point of the inner rim, between
    lip and mouth cavity, is the one that flow reads worst. Frames count where most of the twelve are confident.
    """
    shape = load_motion_space().template if template is None else template
    points = image_to_head_axes(landmarks_px)
    aligned = head_alignment(points, shape).apply(points)[:, list(MOUTH)]
    tracked = _opening(np.diff(aligned[..., 1], axis=0))
    seen = _opening(flow.displacement[1:, :, 1])
    lips = [MOUTH.index(i) for i in UPPER_LIP + LOWER_LIP]
    sure = np.asarray(flow.confidence[1:, lips].mean(1) > CONFIDENT)
    share = float((flow.confidence[1:] > CONFIDENT).mean()) if len(sure) else 0.0
    if np.count_nonzero(sure) < 3 or np.ptp(seen[sure]) == 0 or np.ptp(tracked[sure]) == 0:
        return FlowAgreement(float("nan"), share)
    return FlowAgreement(float(np.corrcoef(seen[sure], tracked[sure])[0, 1]), share)


def _opening(up: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upward motion (T, 78) of the mouth points to the change of the lip opening (T,)."""
    upper, lower = ([MOUTH.index(i) for i in lip] for lip in (UPPER_LIP, LOWER_LIP))
    return np.asarray(up[:, upper].mean(1) - up[:, lower].mean(1), np.float32)


class _PatchCutter:
    """Cuts the mouth's patch out of each frame by the similarity of its rigid points to the template, in the plane.

    Patch pixels: x to the picture's right, y down, `scale` pixels an inter-ocular distance of the template.
    """

    def __init__(self, landmarks_px: Points, template: NDArray[np.float32], patch_px: int) -> None:
        flat = template[:, :2] * np.array([1, -1], np.float32)
        mouth = flat[list(MOUTH)]
        low, high = mouth.min(0), mouth.max(0)
        side = float((high - low).max()) + 2 * PATCH_MARGIN
        self.size_px = patch_px
        self.scale = patch_px / side
        target = (flat[list(RIGID)] - (low + high) / 2) * self.scale + patch_px / 2
        rigid = landmarks_px[:, list(RIGID), :2].astype(np.float64)
        self._matrices = np.stack([_similarity(points, target) for points in rigid])

    def patch(self, picture: Picture, frame: int) -> Picture:
        """The frame's patch, (size, size, 3)."""
        shifted = self._matrices[frame].copy()
        shifted[:, 2] += shifted[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV counts pixel centres at whole numbers
        size = (self.size_px, self.size_px)
        flags = cv2.INTER_CUBIC if np.linalg.det(shifted[:, :2]) > 1 else cv2.INTER_AREA
        warped = cv2.warpAffine(picture, shifted, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped, np.uint8)

    def to_patch(self, points_px: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """Source pixels (N, 2) to patch pixels."""
        matrix = self._matrices[frame]
        return np.asarray(points_px @ matrix[:, :2].T + matrix[:, 2], np.float32)

    def to_source(self, points: NDArray[np.float32], frame: int) -> NDArray[np.float32]:
        """Patch pixels (N, 2) to source pixels."""
        matrix = self._matrices[frame]
        return np.asarray((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T, np.float32)


def _similarity(source: NDArray[np.float64], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Least-squares rotation, scale and shift of points (N, 2) in the plane, (2, 3)."""
    here, there = source.mean(0), target.mean(0)
    a = (source - here) @ [1, 1j]
    b = (target - there) @ [1, 1j]
    turn = np.vdot(a, b) / np.vdot(a, a).real
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.concatenate([linear, (there - linear @ here)[:, None]], 1)


def _track(
    estimator: FlowEstimator, first: Picture, second: Picture, start: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where points (N, 2) of the first patch lie in the second, and how far the way back misses, patch pixels."""
    end = start + _read(estimator.flow(first, second), start)
    back = end + _read(estimator.flow(second, first), end)
    error = np.linalg.norm(back - start, axis=1)
    outside = (end < 0).any(1) | (end > len(second)).any(1)
    return end, np.where(outside, np.inf, error).astype(np.float32)


def _read(field: Field, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear samples (N, 2) of a field at points whose pixel centres lie at +0.5."""
    at = (points - 0.5)[None]
    sampled = cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled[0], np.float32)
