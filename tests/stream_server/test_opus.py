"""Down to 16 kHz, and what stands in for lost packets."""

from __future__ import annotations

import numpy as np
import pytest

from stream_server.media.opus import Concealer, Downsampler, OpusDecoder


def tone(hz: float, samples: int = 48_000) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return (np.sin(2 * np.pi * hz * np.arange(samples) / 48_000) * 16_000).astype(np.int16)


def power(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float((samples[200:] ** 2).mean())


def test_a_voice_frequency_passes_and_one_above_does_not() -> None:
    assert power(Downsampler().push(tone(1000))) == pytest.approx((16_000 / 32_768) ** 2 / 2, rel=0.01)
    assert power(Downsampler().push(tone(11_000))) < 1e-6


def test_chunks_do_not_matter() -> None:
    stream = tone(440)
    whole = Downsampler().push(stream)
    parts = Downsampler()
    pieces = [parts.push(stream[i : i + 960]) for i in range(0, len(stream), 960)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(whole) == 16_000


def test_a_number_of_samples_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="got 100"):
        Downsampler().push(np.zeros(100, np.int16))


def test_concealment_fades_to_silence_and_recovers() -> None:
    concealer = Concealer()
    concealer.good(np.full(960, 1000, np.int16))
    means = [concealer.conceal().astype(float).mean() for _ in range(5)]
    assert means[0] > means[1] > means[2] > 0
    assert means[4] == 0
    concealer.good(np.full(960, 500, np.int16))
    assert concealer.conceal().max() == 500


def test_a_broken_packet_is_no_error() -> None:
    assert OpusDecoder().decode(b"\xff\xff\xff") is None
