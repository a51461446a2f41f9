"""Which of the sent samples is it: on signals delayed, shifted and torn by known amounts."""

from __future__ import annotations

import fractions

import numpy as np
import pytest
from aiortc.codecs.opus import OpusEncoder
from av import AudioFrame
from numpy.typing import NDArray

from stream_server.bench.alignment import (
    OPUS_DELAY_SAMPLES,
    Timeline,
    decode_sound,
    levels_db,
    position_offsets,
    sound_lags,
    unwrap,
)
from stream_server.bench.errors import BenchError
from stream_server.bench.taps import SoundPacket
from stream_server.bench.voice import made_voice

BLOCK = 960
RESOLUTION = 8  # samples


@pytest.fixture(scope="module")
def voice() -> NDArray[np.int16]:
    return made_voice(12.0)


def opus_packets(sound: NDArray[np.int16], first_timestamp: int = 0) -> list[SoundPacket]:
    """As aiortc sends them, one every 20 ms."""
    encoder, packets = OpusEncoder(), []
    for at in range(0, len(sound) - BLOCK + 1, BLOCK):
        frame = AudioFrame.from_ndarray(sound[np.newaxis, at : at + BLOCK], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, at, fractions.Fraction(1, 48_000)
        for payload in encoder.encode(frame)[0]:
            timestamp = (first_timestamp + len(packets) * BLOCK) & 0xFFFFFFFF
            packets.append(SoundPacket(timestamp, len(packets) * 20_000_000, payload))
    return packets


def test_timestamps_go_on_over_their_wrap_and_back() -> None:
    stamps = [2**32 - 960, 0, 960, 2**32 - 960, 1920]
    assert unwrap(stamps, 2**32 - 960).tolist() == [0, 960, 1920, 0, 2880]
    assert unwrap([2**32 - 960], 0).tolist() == [-960]


def test_a_timeline_holds_the_nearest_value() -> None:
    line = Timeline(np.array([10.0, 20.0, 40.0]), np.array([1.0, 2.0, 4.0]))
    assert line(np.array([-5.0, 14.0, 16.0, 29.0, 31.0, 99.0])).tolist() == [1, 1, 2, 2, 4, 4]
    assert Timeline(np.array([5.0]), np.array([7.0]))(np.array([0.0, 9.0])).tolist() == [7, 7]


def test_levels_are_those_of_a_known_sine() -> None:
    sine = (np.sin(2 * np.pi * 500 * np.arange(4800) / 48_000) * 16384).astype(np.int16)
    assert levels_db(sine) == pytest.approx(np.full(5, -9.03), abs=0.01)  # half of full scale, sine: -6.02 - 3.01
    assert levels_db(sine, delay=2 * BLOCK)[:2].tolist() == [-60.0, -60.0]


@pytest.mark.parametrize("offset", [-40, 0, 7, 60])
def test_a_known_offset_of_the_servers_stream_is_found(voice: NDArray[np.int16], offset: int) -> None:
    sent = levels_db(voice)
    heard = {packet + offset: float(level) for packet, level in enumerate(sent) if packet + offset >= 0}
    found = position_offsets(heard, sent, offset + 13)
    assert set(found.value) == {offset}


def test_a_step_of_the_offset_is_found_where_it_is(voice: NDArray[np.int16]) -> None:
    sent = levels_db(voice)
    heard = {packet + (5 if packet < 300 else 9): float(level) for packet, level in enumerate(sent)}
    found = position_offsets(heard, sent, 6)
    assert found(np.array([100.0, 240.0])).tolist() == [5, 5]
    assert found(np.array([380.0, 500.0])).tolist() == [9, 9]


def test_another_voice_is_no_match(voice: NDArray[np.int16]) -> None:
    noise = np.random.default_rng(0).uniform(-50, -10, 500)
    with pytest.raises(BenchError, match="--timecode"):
        position_offsets(dict(enumerate(noise.tolist())), levels_db(voice), 0)


@pytest.mark.parametrize("lag", [-24_000, -4_800, 0, 3_136, 20_000])
def test_a_known_lag_of_the_sound_is_found(voice: NDArray[np.int16], lag: int) -> None:
    returned = voice[-lag:] if lag < 0 else np.concatenate([np.zeros(lag, np.int16), voice])
    found = sound_lags(returned, voice, lag + 4_000)
    assert np.abs(found.value - lag).max() <= RESOLUTION


def test_noise_on_the_way_back_does_not_move_the_lag(voice: NDArray[np.int16]) -> None:
    noisy = voice[9_600:] + np.random.default_rng(1).normal(0, 600, len(voice) - 9_600)
    found = sound_lags(noisy.astype(np.int16), voice, -9_600)
    assert np.abs(found.value + 9_600).max() <= RESOLUTION


def test_other_sound_is_no_match(voice: NDArray[np.int16]) -> None:
    noise = np.random.default_rng(2).normal(0, 3000, 200_000).astype(np.int16)
    with pytest.raises(BenchError, match="not what was sent"):
        sound_lags(noise, voice, 0)


def test_opus_delays_by_what_is_taken_off(voice: NDArray[np.int16]) -> None:
    """Encoded as aiortc does and decoded as ours, over a wrap of the timestamps."""
    returned, begins, came_ns, origin = decode_sound(opus_packets(voice, 2**32 - 48_000))
    assert origin == 2**32 - 48_000
    assert begins.tolist() == list(range(0, len(begins) * BLOCK, BLOCK))
    assert came_ns[1] - came_ns[0] == 20_000_000
    found = sound_lags(returned, voice, 0)
    assert np.abs(found.value - OPUS_DELAY_SAMPLES).max() <= RESOLUTION


def test_lost_doubled_and_late_packets_leave_the_rest_in_place(voice: NDArray[np.int16]) -> None:
    packets = opus_packets(voice)
    torn = [packet for i, packet in enumerate(packets) if i % 10 != 7]
    torn[20], torn[22] = torn[22], torn[20]
    returned, begins, _, _ = decode_sound([*torn, torn[5]])
    assert np.all(np.diff(begins) > 0)
    assert len(begins) == len(torn)
    found = sound_lags(returned, voice, 0)
    assert np.abs(found.value - OPUS_DELAY_SAMPLES).max() <= RESOLUTION
