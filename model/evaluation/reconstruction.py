"""The paper's reconstruction protocol on a rendered capture: its sequences made again from their own sound.

The avatar was trained on the capture's stills, never on its sequences. A sequence's sound is heard hop by hop, as a
session hears it, and becomes mouth and brow motion; head pose and camera are the capture's own, frame by frame, through
the same calls as the renderer's own measurement (`benchmarks/bench_field.py`). Lids and gaze, which no sound tells, are
the capture's too (ER-NeRF also feeds the real eyes); one row has the server's own instead. Pictures are compared before
chroma subsampling and codec; the last row says what those cost by themselves.

Every sequence is one video of the protocol: values are per video, then averaged. Where there are few, an interval says
little more than whether they agree.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.data.capture import Capture
from model.errors import DataError
from model.evaluation.capture_stage import FPS, CaptureClip, CaptureStage, capture_clips
from model.evaluation.drive_lists import Drive
from model.evaluation.faces_video import raw_lip_opening
from model.evaluation.filmed_clips import filmed_clips, filmed_stage
from model.evaluation.learned_metrics import LearnedMetrics
from model.evaluation.mouth_landmarks import MOUTH_METRICS, mouth_scores
from model.evaluation.protocols import (
    MadeVideo,
    MethodScores,
    Scorers,
    cross_scores,
    protocol_table,
    reconstruction_scores,
)
from model.evaluation.report import (
    CurvePlot,
    Panel,
    ReportTable,
    VideoRecord,
    curve_plot,
    evaluation_results,
    write_side_by_side,
)
from model.evaluation.tables import MetricTable, join_tables
from model.face.landmarks import fill_gaps, track_face
from model.motion.idle import IdleMotion
from model.motion.retarget import Retarget
from model.motion.space import MotionSpace, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.motion_stack import ASSETS
from model.radiance.serving import AvatarRenderer
from model.results import Results
from model.speech_to_motion import SpeechToMotion, motion_of_sound
from model.training.capture_pairs import capture_motion
from model.training.motion_targets import load_motion

__all__ = [
    "ROWS",
    "Reconstruction",
    "ReconstructionEvaluation",
    "evaluate_reconstruction",
    "open_stage",
    "reconstruction_results",
    "through_h264",
    "with_eyes",
    "write_videos",
]

SIZE_PX: Final = 256
SERVED, IDLE_EYES, TRUE_MOTION = "served", "served, idle eyes", "true motion"
STATIC, OTHER_SOUND, TRUTH, CODEC = "static mouth", "other sound", "truth", "truth, H.264"
ROWS: Final[Mapping[str, str]] = {
    SERVED: "the sequence's own sound; head pose, lids and gaze of the capture",
    IDLE_EYES: "the same with the server's own blinks and gaze (seed 0)",
    TRUE_MOTION: "the capture's own motion: what the renderer loses by itself",
    STATIC: "control: mouth and brows at rest; head pose, lids and gaze of the capture",
    OTHER_SOUND: "control: the next sequence's sound",
    CODEC: "the capture's frames through H.264 as `render` writes it (crf 16, 4:2:0): what a codec loses",
}
SHOWN: Final = (SERVED, TRUE_MOTION, OTHER_SOUND)
TABLE_NAME: Final = "reconstruction"
CROSS_NAME: Final = "cross"
CROSS_ROWS: Final[Mapping[str, tuple[str, str]]] = {
    OTHER_SOUND: (SERVED, "the next sequence's sound; head pose, lids and gaze of the sequence"),
    SERVED: ("wrong sound", "control: the sequence's own sound, as if it were the other's"),
    STATIC: (STATIC, ROWS[STATIC]),
}
"""Rows of the cross table out of the frames of those above, by row: name and what it is."""
H264_OPTIONS: Final = {"crf": "16", "preset": "veryfast", "x264-params": "threads=1"}

Frames = NDArray[np.uint8]  # (T, S, S, 3) RGB
Motion = NDArray[np.float32]  # (T, 32)
Landmarks = NDArray[np.float32]  # (T, 478, 3) px
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReconstructionEvaluation:
    """What to evaluate on what."""

    face_landmarker: Path  # MediaPipe's bundle
    capture: Path | None = None  # rendered capture with continuous sequences and their sound
    ict: Path | None = None  # ICT-FaceKit: the capture's coefficients become motion through it
    filmed: Path | None = None  # instead of a capture: prepared clips of the avatar's person, with pictures
    made_from: Path | None = None  # the prepared clips that the avatar was made from: they calibrate the person
    keys: tuple[str, ...] = ()  # of `filmed`; none: all
    scorers: Scorers = field(default_factory=lambda: Scorers(LearnedMetrics()))
    avatar: Path | None = None  # None: the shipped one
    models: Path = ASSETS
    steps: int = 2
    frames: int | None = None  # only the first so many of each sequence
    trained_on: Path | None = None  # prepared clips that the speech and motion models were trained on


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """The tables, and what their report shows: frames and lip opening by row and clip."""

    table: MetricTable
    cross: MetricTable | None  # None: there is one sequence only
    clips: tuple[CaptureClip, ...]
    pictures: Mapping[str, tuple[Frames, ...]]
    opening: Mapping[str, tuple[Values, ...]]


def evaluate_reconstruction(
    config: ReconstructionEvaluation, on_row: Callable[[str], None] | None = None
) -> Reconstruction:
    """All rows over all sequences; `on_row` is told each row's name when its turn comes.

    Raises:
        ModelError: The capture has no sequences, a file is missing or damaged, or the avatar needs another motion
            space.
    """
    space = load_motion_space()
    avatar = load_avatar(config.avatar, motion_space=space.hash)
    stage, clips = open_stage(config, AvatarRenderer(avatar, size_px=SIZE_PX))
    drive = SpeechToMotion.load(config.models, num_steps=config.steps)
    motions = row_motions(clips, drive, Retarget.load(avatar.folder), space)
    judge = _Judge(config, stage, clips)
    for row in (*motions, CODEC):
        if on_row is not None:
            on_row(row)
        judge.add(row, [through_h264(f) for f in judge.real] if row == CODEC else judge.perform(motions[row]))
    return judge.verdict()


def open_stage(
    config: ReconstructionEvaluation, renderer: AvatarRenderer
) -> tuple[CaptureStage, tuple[CaptureClip, ...]]:
    """The avatar before its camera, and the sequences that are made again.

    Raises:
        DataError: Neither a capture with ICT-FaceKit nor filmed clips were named.
    """
    if config.filmed is not None and config.made_from is not None:
        filmed = filmed_stage(renderer.avatar.config, config.made_from)
        frames, clips = filmed_clips(config.filmed, filmed, config.keys, config.frames)
        return CaptureStage(renderer, frames), clips
    if config.capture is None or config.ict is None:
        raise DataError(
            "nothing to reconstruct: name a capture and ICT-FaceKit, or filmed clips and what was trained on"
        )
    capture = Capture.open(config.capture)
    truth = capture_motion(config.ict, config.capture)
    stage = CaptureStage(renderer, capture.frames("sequence", SIZE_PX, truth))
    return stage, capture_clips(capture, stage.frames, config.frames)


class _Judge:
    """Takes one row's frames after the other and keeps scores, and what the report shows."""

    def __init__(self, config: ReconstructionEvaluation, stage: CaptureStage, clips: tuple[CaptureClip, ...]) -> None:
        self.config = config
        self.stage = stage
        self.clips = clips
        self.real = [stage.real(clip.rows) for clip in clips]
        self._real_points = [self._track(frames) for frames in self.real]
        self._scores: dict[str, MethodScores] = {}
        self._crossed: dict[str, MethodScores] = {}
        self._mouths: dict[str, dict[str, Values]] = {}
        self._pictures: dict[str, tuple[Frames, ...]] = {TRUTH: tuple(self.real)}
        self._opening = {TRUTH: _openings(self._real_points)}

    def perform(self, motions: Sequence[Motion]) -> list[Frames]:
        return [self.stage.made(clip.rows, motion) for clip, motion in zip(self.clips, motions, strict=True)]

    def add(self, row: str, made: Sequence[Frames]) -> None:
        points = [self._track(frames) for frames in made]
        videos = [
            MadeVideo(
                drive=Drive(clip.name, clip.name),
                made=made[index],
                made_landmarks=points[index],
                real=self.real[index],
                real_landmarks=self._real_points[index],
                face_mask=self.stage.head(clip.rows),
            )
            for index, clip in enumerate(self.clips)
        ]
        self._scores[row] = reconstruction_scores(videos, self.config.scorers)
        self._mouths[row] = _columns(
            [
                mouth_scores(video.made_landmarks, video.real_landmarks, clip.spoken)
                for video, clip in zip(videos, self.clips, strict=True)
            ]
        )
        self._opening[row] = _openings(points)
        if row in SHOWN:
            self._pictures[row] = tuple(made)
        if row in CROSS_ROWS and len(self.clips) > 1:
            self._crossed[CROSS_ROWS[row][0]] = cross_scores(self._crossings(videos), self.config.scorers)

    def verdict(self) -> Reconstruction:
        title = f"Reconstruction of {len(self.clips)} sequences from their own sound"
        names = tuple(clip.name for clip in self.clips)
        table = join_tables(
            title,
            protocol_table(title, self._scores, self.config.scorers, reference=SERVED),
            MetricTable(title=title, clips=names, metrics=MOUTH_METRICS, values=self._mouths, truth=CODEC),
        )
        rows = (f"{row}: {ROWS[row]}" for row in self._scores)
        table = replace(table, notes=(*rows, *_data_notes(self.clips, self.config), *table.notes))
        return Reconstruction(
            table=table, cross=self._cross_table(), clips=self.clips, pictures=self._pictures, opening=self._opening
        )

    def _cross_table(self) -> MetricTable | None:
        if not self._crossed:
            return None
        title = "Cross-generation: the same sequences by the next one's sound"
        table = protocol_table(title, self._crossed, self.config.scorers, reference=SERVED)
        notes = (f"{name}: {meaning}" for name, meaning in CROSS_ROWS.values())
        return replace(table, notes=(*notes, _few(self.clips), *table.notes))

    def _crossings(self, videos: Sequence[MadeVideo]) -> Iterator[MadeVideo]:
        """The videos as if made from the next sequence's sound, over the frames that both have."""
        for index, video in enumerate(videos):
            after = (index + 1) % len(videos)
            count = min(len(video.made), len(self._real_points[after]))
            yield MadeVideo(
                drive=Drive(self.clips[after].name, self.clips[index].name),
                made=video.made[:count],
                made_landmarks=video.made_landmarks[:count],
                real=video.real[:count],
                real_landmarks=video.real_landmarks[:count],
                driving_landmarks=self._real_points[after][:count],
            )

    def _track(self, frames: Frames) -> Landmarks:
        return fill_gaps(track_face(frames, self.config.face_landmarker, fps=FPS).landmarks)


def row_motions(
    clips: Sequence[CaptureClip], drive: SpeechToMotion, retarget: Retarget, space: MotionSpace
) -> dict[str, list[Motion]]:
    """Motion of every clip for each row that has one; "other sound" only where there are several clips."""
    spoken = [retarget(space.clamp(motion_of_sound(clip.sound, drive)[0])) for clip in clips]
    motions = {
        SERVED: [with_eyes(said, clip.motion) for said, clip in zip(spoken, clips, strict=True)],
        IDLE_EYES: [with_eyes(said, _idle(len(clip.motion))) for said, clip in zip(spoken, clips, strict=True)],
        TRUE_MOTION: [clip.motion for clip in clips],
        STATIC: [with_eyes(np.zeros_like(clip.motion), clip.motion) for clip in clips],
    }
    if len(clips) > 1:
        others = [*spoken[1:], spoken[0]]
        motions[OTHER_SOUND] = [with_eyes(said, clip.motion) for said, clip in zip(others, clips, strict=True)]
    return motions


def with_eyes(spoken: Motion, eyes: Motion) -> Motion:
    """Mouth and brows of the first as long as the second lasts (rest after its end); lids and gaze of the second."""
    out = eyes.copy()
    out[:, :AUDIO_OWNED] = 0
    count = min(len(spoken), len(eyes))
    out[:count, :AUDIO_OWNED] = spoken[:count, :AUDIO_OWNED]
    return out


def through_h264(frames: Frames) -> Frames:
    """Frames (T, H, W, 3) RGB, H and W even, after H.264 as `nerf-lipsync render` writes it."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", rate=FPS, options=H264_OPTIONS)
        video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    stream.seek(0)
    with av.open(stream, "r") as container:
        return np.stack([np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)])


def reconstruction_results(
    evaluation: Reconstruction, *, command: str, data: str, videos: Sequence[VideoRecord] = ()
) -> Results:
    """The results file: every cell, and the lip opening of each clip as a curve."""
    tables = [ReportTable(name=TABLE_NAME, table=evaluation.table, tested=SERVED)]
    if evaluation.cross is not None:
        tables.append(ReportTable(name=CROSS_NAME, table=evaluation.cross, tested=SERVED))
    return evaluation_results(
        "Reconstruction",
        tables,
        command=command,
        data=data,
        curves=_curves(evaluation),
        videos=videos,
    )


def write_videos(evaluation: Reconstruction, json: Path) -> tuple[VideoRecord, ...]:
    """A video of each clip beside the results file that is to name it: truth, and the rows of `SHOWN`.

    Raises:
        InputError: A file cannot be written.
    """
    records = []
    for index, clip in enumerate(evaluation.clips):
        panels = [
            Panel(label=label, origin="synthetic", frames=list(films[index]))
            for label, films in evaluation.pictures.items()
        ]
        caption = f"{clip.name}: the capture's frames (rendered, too), then the avatar: {', '.join(SHOWN)}"
        records.append(write_side_by_side(json, clip.name, panels, caption=caption, sound=clip.sound))
    return tuple(records)


def _curves(evaluation: Reconstruction) -> list[CurvePlot]:
    shown = [row for row in (TRUTH, SERVED, TRUE_MOTION) if row in evaluation.opening]
    return [
        curve_plot(
            f"Lip opening, {clip.name}", {row: evaluation.opening[row][index] for row in shown}, unit="inter-ocular"
        )
        for index, clip in enumerate(evaluation.clips)
    ]


def _data_notes(clips: Sequence[CaptureClip], config: ReconstructionEvaluation) -> tuple[str, ...]:
    """How much the intervals can say, and which sounds the models were trained on."""
    if config.trained_on is None:
        return (
            _few(clips),
            "whether the models were trained on these sounds was not looked up: give the prepared clips",
        )
    known = load_motion(config.trained_on)
    heard = [clip.name for clip in clips if clip.name in known]
    fresh = [clip.name for clip in clips if clip.name not in known]
    return (
        _few(clips),
        "trained on, by the motion model and by a retarget map that was fitted to this capture: "
        f"{', '.join(heard) or 'none'}; not trained on: {', '.join(fresh) or 'none'}",
    )


def _few(clips: Sequence[CaptureClip]) -> str:
    return f"{len(clips)} videos of one face and voice: an interval says little more than whether they agree"


def _openings(points: Sequence[Landmarks]) -> tuple[Values, ...]:
    return tuple(raw_lip_opening(face).astype(np.float64) for face in points)


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, Values]:
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _idle(frames: int) -> Motion:
    idle = IdleMotion(0)
    return np.stack([idle.motion(frame) for frame in range(frames)])
