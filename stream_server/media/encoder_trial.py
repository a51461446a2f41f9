"""Which encoders work here, found by encoding: a driver that is listed may still refuse, or make pictures of noise.

Each candidate encodes a dozen pictures; what comes out is decoded and compared. A candidate is refused if it is not in
this FFmpeg, cannot be opened, holds frames back, gives no key frame when asked for one (who joins a call later begins
there), makes what cannot be decoded or does not look like what went in, or does not end in time.

Slow (tens of milliseconds a candidate): never call it on an event loop.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream_server.media.video_encoder import CLOCK_HZ, KINDS, EncoderKind, PictureEncoder, VideoCodec

__all__ = [
    "LEAST_DB",
    "SLOWEST_HARDWARE_MS",
    "EncoderChoice",
    "NoEncoderError",
    "Trial",
    "choose_encoders",
    "rank",
    "try_encoder",
]

log = logging.getLogger(__name__)

SIZE_PX, FRAMES, SECOND_KEY = 256, 14, 9
BITRATE_BPS = 700_000
LEAST_DB = 28.0
"""Brightness of the last decoded picture against what went in; a working encoder reaches 35 dB and more."""
TIMEOUT_S = 20.0
SLOWEST_HARDWARE_MS = 8.0
"""A fifth of a frame's time: hardware that is slower than that is not worth its latency."""
_WARM_UP = 3
_DECODERS = {"VP8": "libvpx", "H264": "h264"}
_DECODER_FALLBACK = {"VP8": "vp8", "H264": "h264"}
_REASON_LENGTH = 160


class NoEncoderError(Exception):
    """No encoder works, or not the one that was asked for; the message says why."""


class _Unfit(Exception):  # noqa: N818 - a finding, caught below
    """What is wrong with a candidate."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one candidate. `problem` is empty if it works; then the times and the likeness hold."""

    kind: EncoderKind
    problem: str = ""
    ms_per_frame: float = 0.0
    psnr_db: float = 0.0

    def line(self) -> str:
        """In words."""
        if self.problem:
            return f"{self.kind.name}: refused: {self.problem}"
        return f"{self.kind.name}: {self.kind.codec}, {self.ms_per_frame:.1f} ms a frame, {self.psnr_db:.0f} dB"


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Encoders that work, by codec, the best first; `codecs` in the order in which they are offered to callers."""

    trials: tuple[Trial, ...]
    codecs: tuple[VideoCodec, ...]
    kinds: dict[VideoCodec, tuple[EncoderKind, ...]] = field(default_factory=dict)

    @property
    def first(self) -> EncoderKind:
        """What encodes for a caller who takes every codec."""
        return self.kinds[self.codecs[0]][0]


def choose_encoders(
    wanted: str = "auto",
    candidates: Sequence[EncoderKind] = KINDS,
    *,
    make: Callable[[EncoderKind, int], PictureEncoder] = PictureEncoder,
    timeout_s: float = TIMEOUT_S,
) -> EncoderChoice:
    """Try the candidates, and put those that work into order (see `rank`).

    Raises:
        NoEncoderError: None works, or the wanted one does not.
    """
    trials = [try_encoder(kind, make=make, timeout_s=timeout_s) for kind in candidates]
    for trial in trials:
        log.info("encoder %s", trial.line())
    choice = rank(trials, wanted)
    log.info("pictures are encoded by %s", choice.first.name)
    return choice


def rank(trials: Sequence[Trial], wanted: str = "auto") -> EncoderChoice:
    """Those that work, in order.

    "auto": hardware that takes at most 8 ms a frame, the fastest first, because it leaves the processor to the model;
    then libvpx's VP8, which every browser takes and whose pictures at this rate are known; then H.264 by a program.
    `wanted` names one that must work: then its codec is offered first and it alone encodes it; callers who do not take
    that codec get the other one.

    Raises:
        NoEncoderError: None works, or the wanted one does not.
    """
    ranked = sorted((trial for trial in trials if not trial.problem), key=_order)
    if wanted != "auto":
        ranked = _with_wanted(wanted, trials, ranked)
    if not ranked:
        tried = "; ".join(trial.line() for trial in trials)
        raise NoEncoderError(f"no video encoder works here: {tried}")
    codecs = tuple(dict.fromkeys(trial.kind.codec for trial in ranked))
    kinds = {codec: tuple(trial.kind for trial in ranked if trial.kind.codec == codec) for codec in codecs}
    return EncoderChoice(tuple(trials), codecs, kinds)


def try_encoder(
    kind: EncoderKind,
    *,
    make: Callable[[EncoderKind, int], PictureEncoder] = PictureEncoder,
    timeout_s: float = TIMEOUT_S,
) -> Trial:
    """Encode a few pictures with it in a thread of its own, which is left behind if it does not end."""
    if make is PictureEncoder and kind.name not in av.codecs_available:
        return Trial(kind, "not in this FFmpeg")
    found: list[Trial] = []

    def run() -> None:
        try:
            found.append(_examine(kind, make(kind, BITRATE_BPS)))
        except _Unfit as unfit:
            found.append(Trial(kind, str(unfit)))
        except Exception as error:  # whatever a driver raises is the finding
            found.append(Trial(kind, _reason(error)))

    thread = threading.Thread(target=run, name=f"try-{kind.name}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return found[0] if found else Trial(kind, f"did not end within {timeout_s:.0f} s")


def _order(trial: Trial) -> tuple[int, float]:
    if trial.kind.hardware and trial.ms_per_frame <= SLOWEST_HARDWARE_MS:
        return 0, trial.ms_per_frame
    if trial.kind.codec == "VP8":
        return 1, trial.ms_per_frame
    return 2 + trial.kind.hardware, trial.ms_per_frame


def _with_wanted(wanted: str, trials: Sequence[Trial], ranked: Sequence[Trial]) -> list[Trial]:
    trial = next((trial for trial in trials if trial.kind.name == wanted), None)
    if trial is None:
        known = ", ".join(trial.kind.name for trial in trials)
        raise NoEncoderError(f"there is no encoder {wanted!r}; known are auto, {known}")
    if trial.problem:
        raise NoEncoderError(f"encoder {wanted} does not work here: {trial.problem}")
    return [trial, *(other for other in ranked if other.kind.codec != trial.kind.codec)]


def _examine(kind: EncoderKind, encoder: PictureEncoder) -> Trial:
    pictures = [_picture(index) for index in range(FRAMES)]
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # without it FFmpeg's errors do not say what is wrong
    try:
        with av.logging.Capture():
            encoded, ms_per_frame = _encode(encoder, pictures)
            decoded, joined = _decode_all(kind.codec, encoded), _decode_later(kind.codec, encoded[SECOND_KEY:])
    finally:
        encoder.close()
        av.logging.set_level(level)
    if len(decoded) != FRAMES:
        raise _Unfit(f"{len(decoded)} of {FRAMES} frames came out of the decoder")
    if len(joined) != FRAMES - SECOND_KEY:
        raise _Unfit("gave no key frame when asked for one")
    psnr_db = min(_psnr_db(pictures[-1], decoded[-1]), _psnr_db(pictures[-1], joined[-1]))
    if psnr_db < LEAST_DB:
        raise _Unfit(f"what it makes does not look like what went in ({psnr_db:.0f} dB)")
    return Trial(kind, "", ms_per_frame, psnr_db)


def _encode(encoder: PictureEncoder, pictures: Sequence[NDArray[np.uint8]]) -> tuple[list[bytes], float]:
    """The frames, and the median time of one in ms."""
    encoded, times_ms = [], []
    for index, picture in enumerate(pictures):
        started_ns = time.perf_counter_ns()
        data = encoder.encode(picture, index * CLOCK_HZ // 25, key_frame=index in (0, SECOND_KEY))
        times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        if not data:
            raise _Unfit(f"gave nothing for frame {index}: it holds frames back")
        encoded.append(data)
    return encoded, statistics.median(times_ms[_WARM_UP:])


def _decode_all(codec: VideoCodec, encoded: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    try:
        return _decode(codec, encoded)
    except av.FFmpegError as error:
        raise _Unfit(f"what it makes cannot be decoded: {error.strerror}") from error


def _decode_later(codec: VideoCodec, encoded: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    """For one who joins: without a key frame there is nothing to begin with."""
    try:
        return _decode(codec, encoded)
    except av.FFmpegError:
        return []


def _decode(codec: VideoCodec, encoded: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    """Brightness (size, size) of each frame."""
    name = _DECODERS[codec] if _DECODERS[codec] in av.codecs_available else _DECODER_FALLBACK[codec]
    decoder: Any = av.CodecContext.create(name, "r")
    decoder.thread_count = 1
    frames: list[Any] = []
    for data in encoded:
        frames += decoder.decode(av.Packet(data))
    frames += decoder.decode(None)
    return [frame.to_ndarray(format="yuv420p")[:SIZE_PX] for frame in frames]


def _picture(index: int) -> NDArray[np.uint8]:
    """A disc that moves over a slope, as a face would (size * 3 // 2, size)."""
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX].astype(np.float32) / SIZE_PX
    disc = ((x - 0.4 - 0.01 * index) ** 2 + (y - 0.5) ** 2 < 0.08).astype(np.float32)
    picture = np.full((SIZE_PX * 3 // 2, SIZE_PX), 128, np.uint8)
    picture[:SIZE_PX] = 50 + 60 * y + disc * (70 + 40 * np.sin(20 * x + index))
    return picture


def _psnr_db(sent: NDArray[np.uint8], got: NDArray[np.uint8]) -> float:
    if got.shape != (SIZE_PX, SIZE_PX):
        raise _Unfit(f"what it makes has shape {got.shape}")
    error = np.mean((sent[:SIZE_PX].astype(np.float32) - got.astype(np.float32)) ** 2)
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-3)))


def _reason(error: Exception) -> str:
    """The error in one line, and what FFmpeg said about it."""
    words = [str(getattr(error, "strerror", None) or str(error) or type(error).__name__)]
    words += [str(said[2]) for said in (getattr(error, "log", None),) if said]
    return " ".join(": ".join(words).split())[:_REASON_LENGTH]
