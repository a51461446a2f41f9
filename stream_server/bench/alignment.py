"""Which of the sent samples is it: from a server's stream positions and from its sound back to the caller's own.

All pure. Positions and lags are in samples at 48 kHz. A caller's sample `s` becomes position `p` of the server's
stream, and sound `q` of what comes back; both offsets are steps of whole packets plus Opus's own delay, and change
only when packets are lost or made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from stream_server.bench.errors import BenchError
from stream_server.bench.taps import SoundPacket
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ, OpusDecoder

__all__ = [
    "OPUS_DELAY_SAMPLES",
    "Timeline",
    "decode_sound",
    "levels_db",
    "position_offsets",
    "sound_lags",
    "unwrap",
]

OPUS_DELAY_SAMPLES = 312
"""What an Opus encoder looks ahead (6.5 ms): decoded sample `p` holds the sound given as sample `p - 312`."""

Array = NDArray[np.float64]
_FLOOR_DB = -60.0
_STEP = 8  # lags are searched at 6 kHz
_LEAST_R_LEVELS = 0.9
_LEAST_R_SOUND = 0.5
_WINDOW_BLOCKS = 75
_LEAST_BLOCKS = 25
_LEAST_ENERGY = 1e-6


@dataclass(frozen=True)
class Timeline:
    """A value over a coordinate, held to the nearest known one; `at` rises."""

    at: Array
    value: Array

    def __call__(self, where: Array) -> Array:
        """The value known nearest to each place."""
        right = np.clip(np.searchsorted(self.at, where), 1, max(1, len(self.at) - 1))
        if len(self.at) == 1:
            return np.full(len(where), self.value[0])
        left = right - 1
        nearer = np.where(where - self.at[left] <= self.at[right] - where, left, right)
        return np.asarray(self.value[nearer])


def unwrap(timestamps: Sequence[int], origin: int) -> NDArray[np.int64]:
    """RTP timestamps as steps from `origin`, over wraps of their 32 bits; each within 2**31 of the one before."""
    steps, before = np.zeros(len(timestamps), np.int64), 0
    for i, timestamp in enumerate(timestamps):
        before += ((timestamp - origin - before + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        steps[i] = before
    return steps


def levels_db(samples: NDArray[np.int16], *, delay: int = 0) -> Array:
    """Loudness in dBFS of each 20 ms after the sound was delayed by `delay` samples; at least -60."""
    delayed = np.concatenate([np.zeros(delay), samples.astype(np.float64)])[: len(samples)] / 32768
    blocks = delayed[: len(delayed) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    return np.asarray(np.maximum(10 * np.log10((blocks**2).mean(axis=1) + 1e-9), _FLOOR_DB))


def position_offsets(heard_db: dict[int, float], sent_db: Array, guess: int, *, reach: int = 100) -> Timeline:
    """Stream block minus sent packet, over the stream's blocks (both 20 ms); from loudness alone.

    `guess` is about how much it should be; `reach` how far off it may be.

    Raises:
        BenchError: The server's loudness is not that of what was sent.
    """
    blocks = np.array(sorted(heard_db))
    at, value = [], []
    for start in range(0, max(1, len(blocks) - _WINDOW_BLOCKS + 1), _WINDOW_BLOCKS // 3):
        part = blocks[start : start + _WINDOW_BLOCKS]
        heard = np.maximum([heard_db[int(block)] for block in part], _FLOOR_DB)
        found = _best_offset(part, heard, sent_db, guess, reach)
        if found is not None:
            at.append(float(part.mean()))
            value.append(float(found))
    if not at:
        raise BenchError(
            "the server's loudness (`playback.position` events) is not that of what was said: does the server run with "
            "--timecode, and does anything replace its sound?"
        )
    return Timeline(np.array(at), np.array(value))


def _best_offset(blocks: NDArray[np.int64], heard: Array, sent: Array, guess: int, reach: int) -> int | None:
    """The offset whose overlap correlates best (Pearson); None if none does well enough."""
    if np.ptp(heard) < 6.0:  # silence says nothing
        return None
    offsets = np.arange(guess - reach, guess + reach + 1)
    packets = blocks[None, :] - offsets[:, None]
    inside = (packets >= 0) & (packets < len(sent))
    count = np.maximum(inside.sum(1, keepdims=True), 1)
    x = np.where(inside, heard[None, :], 0.0)
    y = np.where(inside, sent[np.clip(packets, 0, len(sent) - 1)], 0.0)
    x = np.where(inside, x - x.sum(1, keepdims=True) / count, 0.0)
    y = np.where(inside, y - y.sum(1, keepdims=True) / count, 0.0)
    energy = (x**2).sum(1) * (y**2).sum(1)
    usable = (count[:, 0] >= _LEAST_BLOCKS) & (energy > _LEAST_ENERGY)
    r = np.where(usable, (x * y).sum(1) / np.sqrt(np.maximum(energy, _LEAST_ENERGY)), -1.0)
    best = int(r.argmax())
    return int(offsets[best]) if r[best] > _LEAST_R_LEVELS else None


def decode_sound(
    packets: Sequence[SoundPacket],
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64], int]:
    """What came back, from the first packet's first sample on, missing parts silent.

    Returns:
        Samples; for each packet in order of its timestamp where it begins and when it came (ns); the RTP timestamp of
        the first sample.
    """
    if not packets:
        raise BenchError("no sound came back: nothing to compare the picture with")
    starts = unwrap([packet.timestamp for packet in packets], packets[0].timestamp)
    order = np.argsort(starts, kind="stable")
    order = order[np.concatenate([[True], np.diff(starts[order]) > 0])]  # without duplicates
    first = int(starts[order[0]])
    samples = np.zeros(int(starts[order[-1]]) - first + 6 * BLOCK_SAMPLES, np.int16)
    decoder = OpusDecoder()
    for index in order:
        part = decoder.decode(packets[index].payload)
        if part is not None:
            at = int(starts[index]) - first
            samples[at : at + len(part)] = part[: len(samples) - at]
    came_ns = np.array([packets[index].arrived_ns for index in order], np.int64)
    return samples, starts[order] - first, came_ns, packets[order[0]].timestamp


def sound_lags(
    returned: NDArray[np.int16], sent: NDArray[np.int16], guess: int, *, window_s: float = 2.0, reach_s: float = 1.0
) -> Timeline:
    """Sample of `returned` minus the same sound's sample of `sent`, over `returned`; by correlation, to 1/6 ms.

    `guess` is about how much it should be, `reach_s` how far off it may be.

    Raises:
        BenchError: What came back is not what was sent.
    """
    coarse_back, coarse_sent = _coarse(returned), _coarse(sent)
    window, reach = round(window_s * RATE_HZ / _STEP), round(reach_s * RATE_HZ / _STEP)
    at, value = [], []
    for start in range(0, max(1, len(coarse_back) - window + 1), window // 2):
        part = coarse_back[start : start + window]
        first = start - guess // _STEP - reach  # of what was sent, for the greatest lag looked at
        searched = _slice(coarse_sent, first, len(part) + 2 * reach)
        energy = fftconvolve(searched**2, np.ones(len(part)), mode="valid")
        scale = np.sqrt(np.maximum(energy, 1e-3) * max(float((part**2).sum()), 1e-3))
        r = fftconvolve(searched, part[::-1], mode="valid") / scale
        if r.max() >= _LEAST_R_SOUND:
            at.append(float((start + len(part) / 2) * _STEP))
            value.append(float((start - first - int(r.argmax())) * _STEP))
    if not at:
        raise BenchError("the sound that came back is not what was sent: does the server play another voice?")
    return Timeline(np.array(at), np.array(value))


def _coarse(samples: NDArray[np.int16]) -> Array:
    blocks = samples[: len(samples) // _STEP * _STEP].reshape(-1, _STEP)
    return np.asarray(blocks.astype(np.float64).mean(axis=1) / 32768)


def _slice(samples: Array, start: int, count: int) -> Array:
    """`samples[start : start + count]`, silent where there are none."""
    out = np.zeros(count)
    low, high = max(0, start), min(len(samples), start + count)
    if high > low:
        out[low - start : high - start] = samples[low:high]
    return out
