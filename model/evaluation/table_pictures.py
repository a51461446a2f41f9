"""The picture half of the big table: rows of `model.evaluation.table_rows` through our renderer, against real frames.

Reconstruction: a sequence from its own sound. Cross-generation: from the next sequence's sound, judged against the
landmarks of the face that spoke. Head pose, lids and gaze are those of the video, mouth and brows the row's. Of a row
of samples the first one is rendered. Codec rows are the real frames themselves, encoded and decoded.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.checkpoint import read_checkpoint_info
from model.errors import InputError
from model.evaluation.capture_stage import FPS, CaptureClip, CaptureStage
from model.evaluation.decoder2d import DecoderRenderer
from model.evaluation.drive_lists import Drive
from model.evaluation.mouth_landmarks import MOUTH_METRICS, mouth_scores
from model.evaluation.protocols import (
    CROSS_METRICS,
    RECONSTRUCTION_METRICS,
    MadeVideo,
    cross_scores,
    reconstruction_scores,
)
from model.evaluation.reconstruction import (
    SIZE_PX,
    ReconstructionEvaluation,
    open_stage,
    through_h264,
    with_eyes,
)
from model.evaluation.row_store import RowArrays, RowPlace
from model.evaluation.table_rows import CONTROLS, DETERMINISTIC, SERVED, TAUGHT, VARIED, RowMaker
from model.evaluation.tables import Metric
from model.face.landmarks import LandmarkError, fill_gaps, track_face
from model.motion.retarget import Retarget
from model.motion.space import load_motion_space
from model.radiance.decoder2d import load_decoder
from model.radiance.serving import AvatarRenderer

__all__ = [
    "CROSS_COLUMNS",
    "CROSS_ROWS",
    "DECODER",
    "DECODER_ORACLE",
    "ORACLE",
    "PICTURE_COLUMNS",
    "PICTURE_MEANINGS",
    "PICTURE_ROWS",
    "PictureBench",
    "through_vp8",
]

ORACLE: Final = "oracle motion"
DECODER, DECODER_ORACLE = "2-D decoder", "2-D decoder, oracle motion"
H264, VP8 = "truth, H.264", "truth, VP8"
PICTURE_ROWS: Final = (
    SERVED,
    VARIED,
    "student, 1 step, temperature 0",
    "student, 4 steps, temperature 0",
    TAUGHT,
    DETERMINISTIC,
    *CONTROLS,
    DECODER,
    DECODER_ORACLE,
    ORACLE,
    VP8,
    H264,
)
CROSS_ROWS: Final = (SERVED, VARIED, *CONTROLS, DECODER)
PICTURE_MEANINGS: Final = {
    DECODER: "served motion, the head painted by a 2-D convolutional decoder of the field's cost; capture only",
    DECODER_ORACLE: "the same by the tracked motion: the decoder's ceiling",
    ORACLE: "the tracked motion through our renderer: the ceiling of every row above",
    VP8: "the real frames through a call's codec, 1.5 Mb/s",
    H264: "the real frames through H.264 as `render` writes it",
}
_FIRST: Final = (SERVED, *CONTROLS, ORACLE, H264, VP8, DECODER, DECODER_ORACLE)
"""Made before the others: what is compared, and the ceilings."""
VP8_BITS: Final = 1_500_000
VP8_OPTIONS: Final = {"deadline": "realtime", "cpu-used": "4"}
FORMAT: Final = 1


def _columns(*names: str) -> tuple[Metric, ...]:
    known = {m.name: m for m in (*RECONSTRUCTION_METRICS, *MOUTH_METRICS, *CROSS_METRICS)}
    return tuple(known[name] for name in names)


PICTURE_COLUMNS: Final = _columns(
    "psnr_mouth", "ssim_mouth", "psnr_face", "lmd_mouth", "lmd_mouth_iod", "opening_r", "identity_cosine"
)
CROSS_COLUMNS: Final = _columns("lmd_cross", "lmd_cross_iod", "identity_cosine")
Frames = NDArray[np.uint8]
Motion = NDArray[np.float32]
Landmarks = NDArray[np.float32]


@dataclass(frozen=True)
class PictureBench:
    """An avatar before its camera, the sequences, and who makes motion for them."""

    name: str
    config: ReconstructionEvaluation
    maker: RowMaker
    decoder: Path | None = None  # weights by `train decoder2d`, of the avatar's own frames; None: no such rows

    def reconstruction(self, store: RowPlace, on_row: Callable[[str], None]) -> dict[str, RowArrays]:
        """Scores of `PICTURE_ROWS` from each sequence's own sound; kept rows are not made again."""
        order = dict.fromkeys((*_FIRST, *PICTURE_ROWS))
        return self._rows(store, tuple(order), "own sound", self._reconstructed, on_row)

    def cross(self, store: RowPlace, on_row: Callable[[str], None]) -> dict[str, RowArrays]:
        """Scores of `CROSS_ROWS` from the next sequence's sound."""
        return self._rows(store, CROSS_ROWS, "next sound", self._crossed, on_row)

    def _rows(
        self,
        store: RowPlace,
        names: Sequence[str],
        protocol: str,
        make: Callable[[str], RowArrays],
        on_row: Callable[[str], None],
    ) -> dict[str, RowArrays]:
        c = self.config
        avatar = load_avatar(c.avatar, motion_space=load_motion_space().hash)
        what: dict[str, object] = {
            "format": FORMAT,
            "set": self.name,
            "protocol": protocol,
            "frames": c.frames,
            "clips": c.keys,
            "field": avatar.config.field_hash,
            "embedder": c.scorers.embedder.sha256 if c.scorers.embedder is not None else "",
        }

        def make_if_seen(row: str) -> RowArrays:
            try:
                return make(row)
            except LandmarkError:
                if row not in (DECODER, DECODER_ORACLE):
                    raise
                on_row(f"{row}: no face is found in its pictures, the row stays empty")
                return {}

        return store.open(what | self.maker.recipe).rows(self._kept_as(names), make_if_seen, on_row)

    def _kept_as(self, names: Sequence[str]) -> dict[str, str]:
        """Rows that this one makes, each under its name; the decoder's say which weights, as nothing else hangs on
        them."""
        digest = "" if self.decoder is None else read_checkpoint_info(self.decoder).content_hash
        kept = {}
        for row in names:
            if row.startswith("teacher") and not self.maker.teacher_draws:
                continue
            if row not in (DECODER, DECODER_ORACLE):
                kept[row] = row
            elif digest:
                kept[row] = f"{row}, {digest}"
        return kept

    @cached_property
    def _stage(self) -> tuple[CaptureStage, tuple[CaptureClip, ...]]:
        avatar = load_avatar(self.config.avatar, motion_space=load_motion_space().hash)
        return open_stage(self.config, AvatarRenderer(avatar, size_px=SIZE_PX))

    @cached_property
    def _painted(self) -> CaptureStage:
        """The same stage, the head by the decoder."""
        if self.decoder is None:
            raise InputError("rows of a 2-D decoder need its weights")
        stage, _ = self._stage
        net, _ = load_decoder(self.decoder)
        return CaptureStage(DecoderRenderer(stage.renderer.avatar, net), stage.frames)

    @cached_property
    def _real(self) -> tuple[list[Frames], list[Landmarks]]:
        stage, clips = self._stage
        real = [stage.real(clip.rows) for clip in clips]
        return real, [self._track(frames) for frames in real]

    def _motions(self, row: str, turn: int) -> list[Motion]:
        """Motion of each sequence by the sound of the one `turn` places after it."""
        stage, clips = self._stage
        if row in (ORACLE, DECODER_ORACLE):
            return [clip.motion for clip in clips]
        row = SERVED if row == DECODER else row
        speaking = [clips[(i + turn) % len(clips)] for i in range(len(clips))]
        sounds = self.maker.hear(
            [s.name for s in speaking], [s.sound for s in speaking], [clip.motion for clip in clips]
        )
        space, retarget = load_motion_space(), Retarget.load(stage.renderer.avatar.folder)
        made = self.maker.motion(row, sounds).draws[0]
        return [with_eyes(retarget(space.clamp(m)), clip.motion) for m, clip in zip(made, clips, strict=True)]

    def _frames(self, row: str, turn: int) -> list[Frames]:
        stage, clips = self._stage
        if row in (H264, VP8):
            return [(through_h264 if row == H264 else through_vp8)(frames) for frames in self._real[0]]
        if row in (DECODER, DECODER_ORACLE):
            stage = self._painted
        return [stage.made(c.rows, m) for c, m in zip(clips, self._motions(row, turn), strict=True)]

    def _reconstructed(self, row: str) -> RowArrays:
        (stage, clips), (real, points), made = self._stage, self._real, self._frames(row, 0)
        videos = [
            MadeVideo(
                drive=Drive(clip.name, clip.name),
                made=made[i],
                made_landmarks=self._track(made[i]),
                real=real[i],
                real_landmarks=points[i],
                face_mask=stage.head(clip.rows),
            )
            for i, clip in enumerate(clips)
        ]
        mouths = [
            mouth_scores(v.made_landmarks, v.real_landmarks, c.spoken) for v, c in zip(videos, clips, strict=True)
        ]
        scores = dict(reconstruction_scores(videos, self.config.scorers).values)
        scores |= {name: np.array([m[name] for m in mouths], np.float64) for name in mouths[0]}
        return {metric.name: scores[metric.name] for metric in PICTURE_COLUMNS if metric.name in scores}

    def _crossed(self, row: str) -> RowArrays:
        (_, clips), (real, points), made = self._stage, self._real, self._frames(row, 1)
        videos = []
        for i, clip in enumerate(clips):
            after = (i + 1) % len(clips)
            count = min(len(made[i]), len(points[after]))
            videos.append(
                MadeVideo(
                    drive=Drive(clips[after].name, clip.name),
                    made=made[i][:count],
                    made_landmarks=self._track(made[i])[:count],
                    real=real[i][:count],
                    real_landmarks=points[i][:count],
                    driving_landmarks=points[after][:count],
                )
            )
        scores = cross_scores(videos, self.config.scorers).values
        return {metric.name: scores[metric.name] for metric in CROSS_COLUMNS if metric.name in scores}

    def _track(self, frames: Frames) -> Landmarks:
        return fill_gaps(track_face(frames, self.config.face_landmarker, fps=FPS).landmarks)


def through_vp8(frames: Frames) -> Frames:
    """Frames (T, H, W, 3) RGB, H and W even, after VP8 at 1.5 Mb/s with a call's settings; no frame is dropped."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as container:
        video: Any = container.add_stream("libvpx", rate=FPS, options=VP8_OPTIONS)
        video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        video.bit_rate = VP8_BITS
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    stream.seek(0)
    with av.open(stream, "r") as container:
        return np.stack([np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)])
