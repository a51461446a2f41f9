"""Concealment by libopus: nearer to what was lost than a faded copy, and back in step afterwards."""

from __future__ import annotations

import fractions
from pathlib import Path

import av
import numpy as np
import pytest
from av import AudioFrame
from numpy.typing import NDArray

from stream_server.media.libopus import LibOpusDecoder, find_libopus, open_decoder
from stream_server.media.opus import FadingDecoder, OpusDecoder, SoundDecoder

BLOCK = 960
LOST = range(20, 100, 7)


@pytest.fixture(scope="module")
def library() -> object:
    found = find_libopus()
    assert found is not None, "PyAV's wheel brings libopus"
    return found


def speech_like(blocks: int) -> NDArray[np.int16]:
    """A buzz whose pitch and formant glide, as a voice's do."""
    t = np.arange(blocks * BLOCK) / 48_000
    phase = 2 * np.pi * np.cumsum(120 + 25 * np.sin(2 * np.pi * 0.7 * t)) / 48_000
    formant = 500 + 250 * np.sin(2 * np.pi * 0.9 * t)
    sound = sum(np.sin(k * phase) * np.exp(-(((k * 120 - formant) / 300) ** 2)) for k in range(1, 16))
    return np.asarray(sound * 6000, np.float64).astype(np.int16)


def real_speech(folder: Path, blocks: int) -> NDArray[np.int16]:
    with av.open(str(sorted((folder / "librispeech").glob("*.flac"))[0])) as container:
        resampler = av.AudioResampler("s16", "mono", 48_000)
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    sound = np.concatenate([part.to_ndarray().reshape(-1) for part in parts])
    return np.asarray(sound[: blocks * BLOCK], np.int16)


def packets(sound: NDArray[np.int16], *, fec: bool) -> list[bytes]:
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = 48_000, "mono", "s16", 24_000
    codec.options = {"application": "voip", "frame_duration": "20", "fec": str(int(fec)), "packet_loss": "20"}
    made = []
    for start in range(0, len(sound), BLOCK):
        frame = AudioFrame.from_ndarray(sound[None, start : start + BLOCK], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, fractions.Fraction(1, 48_000)
        made += [bytes(packet) for packet in codec.encode(frame)]
    return made


def received(decoder: SoundDecoder, sent: list[bytes], lost: range) -> NDArray[np.float64]:
    blocks = []
    for index, packet in enumerate(sent):
        following = sent[index + 1] if index + 1 < len(sent) else None
        block = decoder.conceal(following) if index in lost else decoder.decode(packet)
        assert block is not None
        blocks.append(block)
    return np.concatenate(blocks).astype(np.float64)


def error_where_lost(decoder: SoundDecoder, sent: list[bytes], whole: NDArray[np.float64]) -> float:
    """Relative error of the lost blocks' magnitude spectra: what an ear hears of them."""
    made = received(decoder, sent, LOST)
    wrong, wanted = 0.0, 0.0
    for index in LOST:
        part = slice(index * BLOCK, (index + 1) * BLOCK)
        a, b = np.abs(np.fft.rfft(made[part])), np.abs(np.fft.rfft(whole[part]))
        wrong, wanted = wrong + ((a - b) ** 2).sum(), wanted + (b**2).sum()
    return float(np.sqrt(wrong / wanted))


def test_without_loss_it_is_what_pyav_decodes(library: object) -> None:
    sent = packets(speech_like(40), fec=False)
    ours = received(LibOpusDecoder(library), sent, range(0))
    theirs = received(FadingDecoder(OpusDecoder().decode), sent, range(0))
    assert np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize(("fec", "share"), [(False, 0.9), (True, 0.6)])
def test_lost_packets_of_speech_are_covered_better_than_by_fading(
    library: object, data_folder: Path, fec: bool, share: float
) -> None:
    sent = packets(real_speech(data_folder, 400), fec=fec)
    whole = received(LibOpusDecoder(library), sent, range(0))
    ours = error_where_lost(LibOpusDecoder(library), sent, whole)
    faded = error_where_lost(FadingDecoder(OpusDecoder().decode), sent, whole)
    assert ours < share * faded


def test_redundancy_covers_a_made_voice_too(library: object) -> None:
    error = {}
    for fec in (False, True):
        sent = packets(speech_like(120), fec=fec)
        whole = received(LibOpusDecoder(library), sent, range(0))
        error[fec] = error_where_lost(LibOpusDecoder(library), sent, whole)
    assert error[True] < 0.8 * error[False]


def test_after_a_loss_it_is_in_step_again(library: object) -> None:
    sent = packets(speech_like(60), fec=False)
    whole = received(LibOpusDecoder(library), sent, range(0))
    made = received(LibOpusDecoder(library), sent, range(20, 21))
    later = slice(30 * BLOCK, None)
    assert np.abs(made[later] - whole[later]).mean() < 0.02 * np.abs(whole[later]).mean()


def test_a_long_loss_ends_in_silence(library: object) -> None:
    decoder = LibOpusDecoder(library)
    for packet in packets(speech_like(20), fec=False):
        decoder.decode(packet)
    levels = [float(np.abs(decoder.conceal(None).astype(float)).mean()) for _ in range(10)]
    assert levels[0] > 100
    assert levels[-1] == 0


def test_broken_packets_are_none(library: object) -> None:
    decoder = LibOpusDecoder(library)
    assert decoder.decode(b"") is None
    assert decoder.decode(b"\xff\xff\xff") is None
    assert isinstance(open_decoder(), LibOpusDecoder)
