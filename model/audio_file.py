"""Reading the sound of audio and video files: mono float32 at one rate, with clear words for what is not sound.

Containers are those that `model.data.video_file` opens: media only, no playlists or addresses.

Mono is the weighted mean of the channels, by the downmix of ITU-R BS.775 (front 1/sqrt 2, centre 1, surround 1/2, no
low-frequency effects) scaled so that the weights sum to 1: a mix cannot clip, and stereo is the mean of its channels.
FFmpeg's own mix of floats multiplies stereo by 1.41. A constant offset (DC) is left as it is.

The file is decoded piece by piece; only the result is held in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from numpy.typing import NDArray

from model.data.video_audio import no_sound
from model.data.video_file import open_media, read_packets, sound_stream
from model.errors import InputError
from model.speech.log_mel import LOUDEST, SAMPLE_RATE

__all__ = ["LEAST_S", "LONGEST_S", "RATES_HZ", "SAMPLE_RATE", "mix_weights", "read_audio"]

LEAST_S = 0.01
LONGEST_S = 4 * 3600
RATES_HZ = (8_000, 384_000)
"""Sample rates that are taken: less than 8 kHz carries no intelligible speech."""

_WEIGHTS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "DL": 0.5**0.5, "DR": 0.5**0.5, "LFE": 0.0, "LFE2": 0.0}
_MISSING_S = 0.1  # by which sound must be shorter than the file says, to be worth a word
_SURROUND_WEIGHT = 0.5  # of every other channel
# Kaiser window, 3 dB down at 7.5 kHz and 92 dB at 8.3 kHz; FFmpeg's default lets 8.3 kHz through at -18 dB
_RESAMPLER = "filter_size=64:cutoff=0.95"
_FLOATS: dict[str, type[np.floating]] = {"flt": np.float32, "fltp": np.float32, "dbl": np.float64, "dblp": np.float64}

_log = logging.getLogger(__name__)


def read_audio(path: Path, *, rate_hz: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Mono samples at `rate_hz`, -1..1; sound that reaches beyond is scaled down as a whole, and logged.

    Damaged pieces are left out, and logged; so is sound that ends before the file says it does.

    Raises:
        InputError: The file is missing, empty, not sound, shorter than 10 ms, longer than 4 hours, has a sample rate
            outside 8 to 384 kHz, or holds samples that are NaN, infinite or beyond +-16.
    """
    with open_media(path, sound_only=True) as container:
        stream = sound_stream(container)
        if stream is None:
            raise no_sound(path)
        parts, total = [], 0
        for part in _mono(path, _frames(path, container, stream), rate_hz):
            parts.append(part)
            total += len(part)
            if total > LONGEST_S * rate_hz:
                raise InputError(f"{path} lasts longer than {LONGEST_S // 3600} hours: cut it into pieces")
        _warn_if_short(path, stream, total / rate_hz)
    if total < LEAST_S * rate_hz:
        text = f"{path} holds {total / rate_hz * 1000:.2f} ms of sound: give at least {LEAST_S * 1000:.0f} ms"
        raise InputError(text)
    samples = np.concatenate(parts)
    peak = max(float(samples.max()), -float(samples.min()))
    if peak > 1.0:
        _log.info("%s peaks at %.3f of full scale: scaled down to 1", path, peak)
        samples /= np.float32(peak)
    return samples


def mix_weights(channels: tuple[str, ...]) -> tuple[float, ...]:
    """Share of each named channel ("FL", "FC", "LFE", ...) in the mono mix; they sum to 1."""
    weights = [_WEIGHTS.get(name, _SURROUND_WEIGHT) for name in channels]
    if not any(weights):
        weights = [1.0] * len(channels)
    return tuple(w / sum(weights) for w in weights)


def _frames(path: Path, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Decoded sound; what cannot be decoded is left out and counted."""
    damaged: list[str] = []
    for packet in read_packets(container, stream, lambda: damaged.append("container")):
        try:
            yield from (f for f in stream.decode(packet) if f.samples)
        except av.FFmpegError as error:
            damaged.append(str(error))
    if damaged:
        _log.warning("%s: %d damaged pieces were left out (%s)", path, len(damaged), damaged[0])


def _warn_if_short(path: Path, stream: AudioStream, found_s: float) -> None:
    if stream.duration is None or stream.time_base is None:
        return
    stated_s = float(stream.duration * stream.time_base)
    if found_s < stated_s - _MISSING_S:
        _log.warning("%s should last %.2f s, but only %.2f s of it can be read", path, stated_s, found_s)


def _mono(path: Path, frames: Iterator[AudioFrame], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Mixed and resampled pieces; the filters are built anew where the kind of sound changes within the file."""
    graph: Graph | None = None
    kind: tuple[str, str, int] = ("", "", 0)
    position = 0
    for frame in frames:
        found = (frame.format.name, frame.layout.name, frame.sample_rate)
        if graph is None or found != kind:
            yield from _drain(graph)
            graph, kind = _build(path, frame, rate_hz), found
        _check_floats(path, frame, position)
        position += frame.samples
        frame.pts = None
        graph.push(frame)
        yield from _pull(graph)
    yield from _drain(graph)


def _build(path: Path, frame: AudioFrame, rate_hz: int) -> Graph:
    """Decoded frames in; mono at `rate_hz` out."""
    if not RATES_HZ[0] <= frame.sample_rate <= RATES_HZ[1]:
        low, high = (rate // 1000 for rate in RATES_HZ)
        raise InputError(f"{path} has {frame.sample_rate} samples a second: give sound of {low} to {high} kHz")
    weights = mix_weights(tuple(channel.name for channel in frame.layout.channels))
    mix = "+".join(f"{weight:.9f}*c{i}" for i, weight in enumerate(weights))
    graph = Graph()
    try:
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=Fraction(1, frame.sample_rate),
            ),
            graph.add("aformat", "sample_fmts=fltp"),
            graph.add("pan", f"mono|c0={mix}"),
            graph.add("aresample", f"{rate_hz}:{_RESAMPLER}"),
            graph.add("abuffersink"),
        ).configure()
    except av.FFmpegError as error:
        layout = f"{len(frame.layout.channels)} channels ({frame.layout.name})"
        raise InputError(f"{path} has {layout} that cannot be mixed: give mono, stereo or surround sound") from error
    return graph


def _drain(graph: Graph | None) -> Iterator[NDArray[np.float32]]:
    """What the filters still hold."""
    if graph is not None:
        graph.push(None)
        yield from _pull(graph)


def _pull(graph: Graph) -> Iterator[NDArray[np.float32]]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):  # it wants more, or there is no more
            return
        if isinstance(frame, AudioFrame):
            yield frame.to_ndarray().ravel().astype(np.float32, copy=False)


def _check_floats(path: Path, frame: AudioFrame, position: int) -> None:
    """Refuse floats that would spread over their neighbours in the resampler, or are no sound."""
    dtype = _FLOATS.get(frame.format.name)
    if dtype is None:
        return
    channels = len(frame.layout.channels)
    planes, values = (channels, frame.samples) if frame.format.is_planar else (1, channels * frame.samples)
    for plane in frame.planes[:planes]:  # PyAV lists a ninth, wild one after eight: to_ndarray() would read it
        data = np.frombuffer(memoryview(plane), dtype, count=values)
        peak = max(float(data.max()), -float(data.min()))  # NaN if there is one
        if not np.isfinite(peak):
            at_s = position / frame.sample_rate
            raise InputError(f"{path} holds NaN or infinite samples from {at_s:.2f} s on: export it again")
        if peak > LOUDEST:
            raise InputError(f"{path} holds samples up to {peak:.6g}: scale them to -1..1 and save it again")
