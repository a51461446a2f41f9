"""Windows for training the speech encoder: raw log-mel kept in memory, augmented and normalised when drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures
from model.data.speech_corpus import Utterance
from model.speech.log_mel import HALF_LIFE_S, MAX_FLOOR_LOG10, RANGE_LOG10, LogMel, LogMelState
from model.speech.phonemes import INDEX, SILENCE_INDEX, split_word

Array = NDArray[np.float32]
Windows = tuple[Array, NDArray[np.int64], Array]
"""Mel windows, token labels, motion (NaN where not filmed)."""
HISTORY_COLUMNS = 104  # sound before the window, for the running maximum
UNLABELLED = -100


@dataclass
class SpeechItem:
    """One stretch of sound; `motion` is NaN where the speaker was not filmed."""

    raw: Array  # (columns, mels) log10 power
    phonemes: NDArray[np.int64]  # (columns,)
    motion: Array | None  # (frames, M)
    words: tuple[tuple[tuple[str, ...], int, int], ...] = ()  # phonemes and column span of each word


def item_from_utterance(utterance: Utterance, log_mel: LogMel) -> SpeechItem:
    """Synthetic speech: exact phoneme times, no face."""
    raw = log_mel.push_raw(utterance.audio, LogMelState())
    return SpeechItem(raw, _fit(utterance.phonemes, len(raw)), None)


def item_from_clip(clip: ClipFeatures, motion: Array, log_mel: LogMel) -> SpeechItem:
    """A GRID clip: phonemes laid over its words by typical lengths (refined later), and its motion."""
    raw = log_mel.push_raw(clip.sound, LogMelState())
    labels = np.full(len(raw), SILENCE_INDEX, np.int64)
    words = []
    for word in clip.words:
        phones = split_word(word.text, word.start_frame * 4, word.end_frame * 4)
        for name, start, end in phones:
            labels[round(start) : round(end)] = INDEX[name]
        span = (round(word.start_frame * 4), round(word.end_frame * 4))
        words.append((tuple(p for p, _, _ in phones), *span))
    return SpeechItem(raw, labels, motion, tuple(words))


def draw_windows(items: list[SpeechItem], columns: int, count: int, rng: np.random.Generator) -> Windows:
    """Augmented windows (B, columns, mels), token labels (B, columns / 2), motion (B, columns / 4, M) or NaN."""
    size = max((i.motion.shape[1] for i in items if i.motion is not None), default=1)
    raws, labels = [], []
    motion = np.full((count, columns // 4, size), np.nan, np.float32)
    for row in range(count):
        item = items[int(rng.integers(len(items)))]
        end = 4 * int(rng.integers(6, len(item.raw) // 4 + 1))
        stretch = _slice(item.raw, end, columns + HISTORY_COLUMNS, -10.0)
        raws.append(augment(stretch.astype(np.float32, copy=False), rng))
        labels.append(_slice(item.phonemes[:, None], end, columns, SILENCE_INDEX)[1::2, 0])
        if item.motion is not None:
            last = min(end // 4, len(item.motion))
            first = max(0, end // 4 - columns // 4)
            offset = first - (end // 4 - columns // 4)
            motion[row, offset : offset + last - first] = item.motion[first:last]
    return normalise_batch(np.stack(raws))[:, HISTORY_COLUMNS:], np.stack(labels), motion


def normalise_batch(raw: Array) -> Array:
    """What `LogMel.normalise` does, over (B, columns, mels) at once."""
    decay = np.log10(2.0) / HALF_LIFE_S * 0.01
    maximum = np.full(len(raw), MAX_FLOOR_LOG10, np.float32)
    out = np.empty_like(raw)
    for i in range(raw.shape[1]):
        column = raw[:, i]
        maximum = np.maximum(np.maximum(column.max(1), maximum - decay), MAX_FLOOR_LOG10)
        top = maximum[:, None]
        out[:, i] = np.maximum(column, top - RANGE_LOG10) - top
    return np.asarray(out / (RANGE_LOG10 / 2) + 1.0, np.float32)


def augment(raw: Array, rng: np.random.Generator) -> Array:
    """Another mouth, another microphone: warped bands, tilt, resonances, level, noise, dropped bands."""
    bands = np.arange(raw.shape[1], dtype=np.float32)
    if rng.random() < 0.8:
        factor = float(np.exp(rng.normal(0.0, 0.11)))
        source = np.clip(bands * factor, 0, len(bands) - 1)
        low = source.astype(np.int64)
        high = np.minimum(low + 1, len(bands) - 1)
        raw = raw[:, low] + (raw[:, high] - raw[:, low]) * (source - low)
    shape = rng.normal(0, 0.4) * (bands / len(bands) - 0.5)
    for _ in range(2):
        shape = shape + rng.normal(0, 0.25) * np.exp(-(((bands - rng.uniform(0, 80)) / rng.uniform(4, 15)) ** 2))
    raw = raw + (shape + rng.uniform(-1.8, 0.7)).astype(np.float32)
    if rng.random() < 0.6:
        noise = raw.max() - rng.uniform(1.0, 5.0) + rng.normal(0, 0.4) * (bands / len(bands) - 0.5)
        noise = noise + rng.normal(0, 0.25, raw.shape)
        raw = np.logaddexp(raw * np.log(10), noise * np.log(10)) / np.log(10)
    return raw.astype(np.float32)


def _slice(values: NDArray[np.generic], end: int, length: int, fill: float) -> NDArray[np.generic]:
    """The `length` rows before `end`, padded in front."""
    start = end - length
    part = values[max(0, start) : end]
    if start >= 0:
        return part
    return np.concatenate([np.full((-start, values.shape[1]), fill, values.dtype), part])


def _fit(labels: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    out = np.full(length, SILENCE_INDEX, np.int64)
    out[: min(length, len(labels))] = labels[:length]
    return out
