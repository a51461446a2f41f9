"""Videos with several faces side by side: H.264 and AAC in an MP4, each picture captioned in the pixels.

The caption says what each picture is and whether it was filmed or is synthetic; the file's comment says so again.
Equal pictures give equal bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.report.record import VideoRecord

__all__ = ["Panel", "WrittenVideo", "write_panels", "write_side_by_side"]

Picture = NDArray[np.uint8]

CAPTION_PX = 44
POSTER_QUALITY = 80
POSTER_WIDTH_PX = 640
SYNTHETIC_NOTE = "Synthetic pictures were generated or rendered; they were not filmed."
AAC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
H264_OPTIONS = {"crf": "18", "preset": "medium", "x264-params": "threads=1", "flags": "+bitexact"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One of the pictures: (H, W, 3) uint8 RGB frames, all panels of one size and length."""

    label: str  # ASCII, burned in
    origin: Literal["filmed", "synthetic"]  # a render of any kind is synthetic
    frames: Iterable[Picture]


def write_side_by_side(
    json: Path,
    name: str,
    panels: Sequence[Panel],
    *,
    caption: str,
    fps: int = 25,
    sound: NDArray[np.float32] | None = None,  # (S,) mono, -1..1
    rate_hz: int = 16_000,
) -> VideoRecord:
    """Write `<stem of json>-videos/<name>.mp4` beside a results file that is to name it.

    Args:
        json: Where the results will be written; the video's folder is made if need be.
        name: File name without suffix: letters, digits, `-` and `_`.
        panels: Left to right.
        caption: For the page, in words.
        fps: Frames per second.
        sound: Cut at the end of the pictures.
        rate_hz: Of the sound; one that AAC knows.

    Raises:
        InputError: No panels, labels that are not ASCII, frames of other shapes or numbers, a rate that AAC does not
            know, or a file that cannot be written.
    """
    _check_name(name)
    file = f"{json.stem}-videos/{name}.mp4"
    pictures = write_panels(json.parent / file, panels, fps=fps, sound=sound, rate_hz=rate_hz)
    return VideoRecord(
        file=file,
        caption=caption,
        panels=tuple((panel.label, panel.origin) for panel in panels),
        poster=pictures.poster,
        width_px=pictures.width_px,
        height_px=pictures.height_px,
    )


@dataclass(frozen=True, slots=True)
class WrittenVideo:
    """What a page needs to know of a video file."""

    poster: str  # JPEG of the first frame, base64
    width_px: int
    height_px: int


def write_panels(
    path: Path,
    panels: Sequence[Panel],
    *,
    fps: int = 25,
    sound: NDArray[np.float32] | None = None,  # (S,) mono, -1..1
    rate_hz: int = 16_000,
) -> WrittenVideo:
    """Write the panels side by side as one MP4 file, whole or not at all; its folder is made if need be.

    Raises:
        InputError: As `write_side_by_side`.
    """
    _check_panels(path.name, panels, rate_hz)
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = _encode(partial, panels, fps, sound, rate_hz)
        partial.replace(path)
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"cannot write {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return pictures


def _check_name(name: str) -> None:
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise InputError(f"a video is named with letters, digits, - and _, got {name!r}")


def _check_panels(name: str, panels: Sequence[Panel], rate_hz: int) -> None:
    if not panels:
        raise InputError(f"video {name!r} has no panels")
    for panel in panels:
        if not panel.label.isascii() or not panel.label.isprintable() or not panel.label:
            raise InputError(f"video {name!r}: the label {panel.label!r} cannot be drawn: use ASCII")
    if rate_hz not in AAC_RATES_HZ:
        raise InputError(f"video {name!r}: AAC has no {rate_hz} Hz: resample to one of {AAC_RATES_HZ}")


def _encode(
    path: Path, panels: Sequence[Panel], fps: int, sound: NDArray[np.float32] | None, rate_hz: int
) -> WrittenVideo:
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    first: Picture | None = None
    count = 0
    with av.open(str(path), "w", format="mp4", options=options) as container:
        container.metadata["comment"] = f"{'; '.join(f'{p.label}: {p.origin}' for p in panels)}. {SYNTHETIC_NOTE}"
        video: Any = container.add_stream("libx264", rate=fps, options=H264_OPTIONS)
        video.pix_fmt = "yuv420p"
        audio: Any = None
        if sound is not None:
            audio = container.add_stream("aac", rate=rate_hz, layout="mono", options={"flags": "+bitexact"})
        for picture in _pictures(panels):
            if first is None:
                first = picture
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = count, Fraction(1, fps)
            container.mux(video.encode(frame))
            count += 1
        if first is None:
            raise InputError("a video needs at least one frame, got none")
        container.mux(video.encode(None))
        if sound is not None:
            container.mux([*audio.encode(_sound_frame(sound[: count * rate_hz // fps], rate_hz)), *audio.encode(None)])
    return WrittenVideo(_poster(first), first.shape[1], first.shape[0])


def _sound_frame(sound: NDArray[np.float32], rate_hz: int) -> av.AudioFrame:
    if sound.ndim != 1 or not len(sound):
        raise InputError(f"sound is (S,) mono samples, got shape {sound.shape}")
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None], np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    return frame


def _pictures(panels: Sequence[Panel]) -> Iterator[Picture]:
    """Captioned frames side by side; even sizes, as 4:2:0 needs."""
    ends = object()
    sources = [iter(panel.frames) for panel in panels]
    captions: Picture | None = None
    while True:
        frames = [next(source, ends) for source in sources]
        if all(frame is ends for frame in frames):
            return
        if any(frame is ends for frame in frames):
            ended = ", ".join(p.label for p, frame in zip(panels, frames, strict=True) if frame is ends)
            raise InputError(f"panels need equally many frames: {ended} ended early")
        shown = [np.asarray(frame) for frame in frames]
        shapes = {(frame.shape, str(frame.dtype)) for frame in shown}
        if len(shapes) > 1 or shown[0].ndim != 3 or shown[0].shape[2] != 3 or shown[0].dtype != np.uint8:
            raise InputError(f"panels need (H, W, 3) uint8 frames of one size, got {sorted(shapes)}")
        if captions is None:
            captions = np.hstack([_caption(panel, shown[0].shape[1]) for panel in panels])
        whole = np.vstack([captions, np.hstack(shown)])
        odd_rows, odd_columns = whole.shape[0] % 2, whole.shape[1] % 2
        yield np.ascontiguousarray(np.pad(whole, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge"))


def _caption(panel: Panel, width_px: int) -> Picture:
    """A dark bar: the label, and below it where the picture comes from."""
    import cv2

    bar = np.full((CAPTION_PX, width_px, 3), 24, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for text, baseline, scale, grey in ((panel.label, 18, 0.5, 255), (panel.origin, 36, 0.45, 200)):
        (length, _), _ = cv2.getTextSize(text, font, scale, 1)
        fitted = scale * min(1.0, (width_px - 8) / length)
        cv2.putText(bar, text, (4, baseline), font, fitted, (grey, grey, grey), 1, cv2.LINE_AA)
    return bar


def _poster(picture: Picture) -> str:
    """A JPEG for the page, in base64."""
    import cv2

    height, width = picture.shape[:2]
    if width > POSTER_WIDTH_PX:
        size = (POSTER_WIDTH_PX, round(height * POSTER_WIDTH_PX / width))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, POSTER_QUALITY])
    return base64.b64encode(data.tobytes()).decode()
