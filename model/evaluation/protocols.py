"""The paper's two protocols: score the videos of a method, one by one, into a column of a table.

Reconstruction: a real video made again from its own sound, frame held against frame. Cross-generation: a face driven by
another clip's sound; pictures are then compared as a distribution with the target's real frames (FID), the mouth with
the landmarks of the face that spoke (LMD, scaled to that face's inter-ocular distance), and identity with the target's
frames. Values are per video and then averaged, as the paper does; FID is given pooled as well, which is the figure to
compare. Videos come one at a time, so that a test set need not fit into memory.

Both sides must have the same crop, size and codec: a codec alone moves some of these figures more than a method does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.drive_lists import Drive
from model.evaluation.identity import IDENTITY_METRIC, FaceEmbedder, identity_cosine
from model.evaluation.image_metrics import IMAGE_METRICS, Masks, box_masks, image_scores, mouth_boxes
from model.evaluation.landmark_metrics import ibug68, inter_ocular_px, landmark_distance, landmark_scores, scaled_to
from model.evaluation.learned_metrics import FID_METRICS, LPIPS_METRIC, FidScore, LearnedMetrics
from model.evaluation.tables import Metric, MetricTable
from model.motion.face_points import LIPS_INNER, LIPS_OUTER

__all__ = ["MadeVideo", "MethodScores", "Scorers", "cross_scores", "protocol_table", "reconstruction_scores"]

Frames = NDArray[np.uint8]
Landmarks = NDArray[np.float32]
LIPS = (*LIPS_OUTER, *LIPS_INNER)

_LMD = "mean distance of the 20 mouth points (48..67 of iBUG's 68), each set less its own mean (ER-NeRF's LMDMeter)"
RECONSTRUCTION_METRICS = (
    *IMAGE_METRICS,
    LPIPS_METRIC,
    *FID_METRICS,
    Metric(
        name="lmd_mouth",
        title="LMD",
        unit="px",
        better="lower",
        definition=f"Landmark distance: {_LMD}, points by MediaPipe, mean over frames.",
    ),
    Metric(
        name="lmd_mouth_iod",
        title="LMD, inter-ocular",
        unit="IOD",
        better="lower",
        definition="The same over the real frame's inter-ocular distance: independent of the picture's size.",
    ),
    IDENTITY_METRIC,
)
CROSS_METRICS = (
    *FID_METRICS,
    Metric(
        name="lmd_cross",
        title="LMD, cross",
        unit="px",
        better="lower",
        definition=f"Landmark distance to the face that spoke: {_LMD}; the made face is first scaled to the mean "
        "inter-ocular distance of the speaking one. Pixels of the speaking face's video. Our definition: the paper "
        "names none.",
    ),
    Metric(
        name="lmd_cross_iod",
        title="LMD, cross, inter-ocular",
        unit="IOD",
        better="lower",
        definition="The same over the speaking face's inter-ocular distance in each frame.",
    ),
    IDENTITY_METRIC,
)


@dataclass(frozen=True, kw_only=True)
class MadeVideo:
    """One video that a method made, and what it is held against; T frames throughout, RGB.

    Raises:
        InputError: The lengths differ, or there are fewer than two frames.
    """

    drive: Drive
    made: Frames  # (T, H, W, 3)
    made_landmarks: Landmarks  # (T, 478, 2 or 3) px
    real: Frames  # (T, H, W, 3): the same frames as filmed; in cross-generation those whose face and pose were taken
    real_landmarks: Landmarks
    face_mask: Masks | None = None  # (T, H, W) of the real frames; without it there are no figures of the face region
    driving_landmarks: Landmarks | None = None  # cross-generation: of the face that spoke

    def __post_init__(self) -> None:
        parts = (self.made, self.made_landmarks, self.real, self.real_landmarks, self.driving_landmarks)
        lengths = {len(part) for part in parts if part is not None}
        if len(lengths) != 1 or lengths.pop() < 2:
            shown = ", ".join(str(len(part)) for part in parts if part is not None)
            raise InputError(f"{self.drive.name}: made, real and landmarks need one length of two or more, got {shown}")


@dataclass(frozen=True)
class Scorers:
    """The networks at hand."""

    learned: LearnedMetrics
    embedder: FaceEmbedder | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for below the table: which networks scored, which figures are absent."""
        if self.embedder is None:
            return (*self.learned.notes, "no face embedder was given (ONNX of MobileFaceNet or ArcFace): no identity")
        face = f"identity by {self.embedder.name}, sha256 {self.embedder.sha256[:12]}"
        return (*self.learned.notes, face)


@dataclass(frozen=True)
class MethodScores:
    """One method's row: per video, and over all videos at once."""

    clips: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]
    pooled: Mapping[str, float]


def reconstruction_scores(videos: Iterable[MadeVideo], scorers: Scorers) -> MethodScores:
    """Score videos made from their own sound.

    Raises:
        InputError: There are none, or made and real frames differ in size.
    """
    return _score(videos, scorers, _reconstructed)


def cross_scores(videos: Iterable[MadeVideo], scorers: Scorers) -> MethodScores:
    """Score videos made from another clip's sound.

    Raises:
        InputError: There are none, or one has no landmarks of the face that spoke.
    """
    return _score(videos, scorers, _crossed)


def protocol_table(
    title: str,
    methods: Mapping[str, MethodScores],
    scorers: Scorers,
    *,
    reference: str | None = None,
) -> MetricTable:
    """One table of several methods over the same videos; `reference` is the row that differences are taken to.

    Raises:
        InputError: There are no methods, or they made other videos.
    """
    if not methods:
        raise InputError("a table needs a method")
    first, clips = next((name, scores.clips) for name, scores in methods.items())
    for name, scores in methods.items():
        if scores.clips != clips:
            apart = sorted(set(scores.clips) ^ set(clips)) or ["the order"]
            raise InputError(f"methods {first!r} and {name!r} made other videos ({len(apart)} apart: {apart[0]})")
    found = {name for scores in methods.values() for name in (*scores.values, *scores.pooled)}
    described = {metric.name: metric for metric in (*RECONSTRUCTION_METRICS, *CROSS_METRICS)}
    return MetricTable(
        title=title,
        clips=clips,
        metrics=tuple(metric for name, metric in described.items() if name in found),
        values={name: scores.values for name, scores in methods.items()},
        pooled={name: scores.pooled for name, scores in methods.items() if scores.pooled},
        reference=reference,
        notes=scorers.notes,
    )


def _score(
    videos: Iterable[MadeVideo], scorers: Scorers, score: Callable[[MadeVideo, Scorers], dict[str, float]]
) -> MethodScores:
    names: list[str] = []
    rows: list[dict[str, float]] = []
    inception = scorers.learned.inception
    fid = FidScore(inception.size) if inception is not None else None
    for video in videos:
        row = score(video, scorers)
        if scorers.embedder is not None:
            cosines = identity_cosine(
                scorers.embedder, video.made, video.made_landmarks, video.real, video.real_landmarks
            )
            row[IDENTITY_METRIC.name] = float(cosines.mean())
        if inception is not None and fid is not None:
            row["fid_per_video"] = fid.add(inception.features(video.made), inception.features(video.real))
        names.append(video.drive.name)
        rows.append(row)
    if not rows:
        raise InputError("there are no videos to score")
    columns = dict.fromkeys(name for row in rows for name in row)
    values = {column: np.array([row.get(column, np.nan) for row in rows]) for column in columns}
    pooled = {"fid": fid.pooled} if fid is not None else {}
    return MethodScores(tuple(names), values, pooled)


def _reconstructed(video: MadeVideo, scorers: Scorers) -> dict[str, float]:
    size = (video.real.shape[1], video.real.shape[2])
    regions: dict[str, Masks | None] = {"crop": None}
    if video.face_mask is not None:
        regions["face"] = video.face_mask
    regions["mouth"] = box_masks(mouth_boxes(video.real_landmarks[:, list(LIPS)], size), size)
    row = image_scores(video.made, video.real, regions)
    points = landmark_scores(ibug68(video.made_landmarks), ibug68(video.real_landmarks))
    row |= {name: points[name] for name in ("lmd_mouth", "lmd_mouth_iod")}
    if scorers.learned.lpips is not None:
        row[LPIPS_METRIC.name] = float(scorers.learned.lpips.distances(video.made, video.real).mean())
    return row


def _crossed(video: MadeVideo, _: Scorers) -> dict[str, float]:
    if video.driving_landmarks is None:
        raise InputError(f"{video.drive.name}: cross-generation needs the landmarks of the face that spoke")
    speaking = ibug68(video.driving_landmarks)
    distance = landmark_distance(scaled_to(ibug68(video.made_landmarks), speaking), speaking)
    relative = distance / inter_ocular_px(speaking)
    return {"lmd_cross": float(distance.mean()), "lmd_cross_iod": float(relative.mean())}
