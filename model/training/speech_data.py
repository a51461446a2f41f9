"""Windows for training the speech encoder: raw log-mel kept in memory, mixed, coloured and normalised when drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.corpus_parts import CorpusItem, Kind, read_corpus
from model.speech.log_mel import HALF_LIFE_S, MAX_FLOOR_LOG10, RANGE_LOG10, LogMel, LogMelState
from model.speech.phonemes import INDEX, SILENCE_INDEX, VOICED

Array = NDArray[np.float32]
HISTORY_COLUMNS = 104  # sound before the window, for the running maximum
SILENCE_LOG10 = -10.0
PAUSE_COLUMNS = 20
"""A gap between sounds shorter than this (200 ms) belongs to the speech around it."""
NOT_SPEECH_ALONE = "babble"
"""Noise that is only mixed in: alone it is speech of others, neither silence nor this speaker."""
_IS_VOICED = np.isin(np.arange(len(INDEX)), [INDEX[name] for name in VOICED])


@dataclass(frozen=True)
class SpeechItem:
    """One stretch of sound; `motion` is None where nobody was filmed."""

    raw: NDArray[np.float16]  # (columns, mels) log10 power
    phonemes: NDArray[np.uint8]  # (columns,)
    active: NDArray[np.bool_]  # (columns,) somebody speaks
    level_log10: float  # mean power of what is heard
    motion: Array | None = None  # (frames, M)


@dataclass(frozen=True)
class SpeechBank:
    """All that windows are drawn from."""

    filmed: Sequence[SpeechItem]
    spoken: Sequence[SpeechItem]
    noise: Sequence[SpeechItem]
    noise_alone: Sequence[SpeechItem]


@dataclass(frozen=True)
class Windows:
    """A batch."""

    mel: Array  # (B, columns, mels), normalised
    phonemes: NDArray[np.int64]  # (B, columns / 2)
    voice: Array  # (B, columns / 2, 2) voicing, activity: 0 or 1
    motion: Array  # (B, columns / 4, M), NaN where not filmed


@dataclass(frozen=True)
class Row:
    """One window before it is normalised.

    `moved_columns`: by how much the sound was moved against the picture. `maximum`: the running maximum that a louder
    sound left behind, long before.
    """

    raw: Array  # (history + columns, mels)
    item: SpeechItem
    end: int  # column of the item where the window ends
    moved_columns: int = 0
    maximum: float = MAX_FLOOR_LOG10


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """How windows are drawn and spoilt."""

    filmed_share: float = 0.38
    noise_share: float = 0.08
    mixed_share: float = 0.55
    snr_db: tuple[float, float] = (0.0, 30.0)
    shifted_share: float = 0.2
    shift_columns: int = 5  # +-50 ms between sound and picture, as in the paper
    popped_share: float = 0.15
    pop_log10: float = 1.5  # at most so much above the window's own maximum has the running one been left by a pop


def load_bank(folder: Path, log_mel: LogMel, motion: Mapping[str, Array], *, codes: int) -> SpeechBank:
    """Read a corpus and turn it into log-mel; `motion` (T, 32) of filmed clips by key, of which `codes` are kept."""
    kinds: dict[Kind, list[SpeechItem]] = {"filmed": [], "spoken": [], "noise": []}
    alone = []
    for item in read_corpus(folder):
        made = make_speech_item(item, log_mel, motion[item.info.key][:, :codes] if item.info.key else None)
        kinds[item.info.kind].append(made)
        if item.info.kind == "noise" and item.info.voice != NOT_SPEECH_ALONE:
            alone.append(made)
    return SpeechBank(kinds["filmed"], kinds["spoken"], kinds["noise"], alone)


def make_speech_item(item: CorpusItem, log_mel: LogMel, motion: Array | None) -> SpeechItem:
    """Log-mel, activity and level of an item."""
    raw = log_mel.push_raw(item.sound, LogMelState())
    columns = min(len(raw), len(item.phonemes))
    raw, phonemes = raw[:columns], item.phonemes[:columns]
    active = speech_activity(phonemes)
    heard = raw[active] if active.any() else raw
    level = float(np.log10(np.mean((10.0 ** heard.astype(np.float64)).sum(1)) + 1e-10))
    return SpeechItem(raw.astype(np.float16), phonemes, active, level, motion)


def speech_activity(phonemes: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(columns,) True from the first to the last sound of each stretch without a pause."""
    active = np.asarray(phonemes != SILENCE_INDEX)
    edges = np.flatnonzero(np.diff(active.astype(np.int8)))
    for start, end in pairwise(edges):
        if not active[start + 1] and end - start < PAUSE_COLUMNS:
            active[start + 1 : end + 1] = True
    return active


def draw_windows(bank: SpeechBank, columns: int, count: int, mix: MixConfig, rng: np.random.Generator) -> Windows:
    """Spoilt windows in random order of kinds."""
    rows = [_draw_row(bank, columns, mix, rng) for _ in range(count)]
    return stack_windows(rows, columns)


def plain_windows(items: Iterable[SpeechItem], columns: int, count: int, rng: np.random.Generator) -> Windows:
    """Windows as recorded, for validation."""
    pool = list(items)
    rows = []
    for _ in range(count):
        item = pool[int(rng.integers(len(pool)))]
        end = _draw_end(item, rng)
        raw = _cut(item.raw, end, columns + HISTORY_COLUMNS, SILENCE_LOG10).astype(np.float32)
        rows.append(Row(raw, item, end))
    return stack_windows(rows, columns)


def stack_windows(rows: Sequence[Row], columns: int) -> Windows:
    """Normalise the rows and cut their labels."""
    size = max((r.item.motion.shape[1] for r in rows if r.item.motion is not None), default=1)
    motion = np.full((len(rows), columns // 4, size), np.nan, np.float32)
    phonemes, voice = [], []
    for index, row in enumerate(rows):
        item, end = row.item, row.end
        labels = _cut(item.phonemes[:, None], end, columns, SILENCE_INDEX)[1::2, 0]
        active = _cut(item.active[:, None], end, columns, False)[1::2, 0]
        phonemes.append(labels.astype(np.int64))
        voice.append(np.stack([_IS_VOICED[labels], active], 1).astype(np.float32))
        if item.motion is not None:
            _place_motion(motion[index], item.motion, (end - row.moved_columns) // 4)
    maximum = np.array([r.maximum for r in rows], np.float32)
    mel = normalise_batch(np.stack([r.raw for r in rows]), maximum)[:, HISTORY_COLUMNS:]
    return Windows(mel, np.stack(phonemes), np.stack(voice), motion)


def normalise_batch(raw: Array, maximum: Array | None = None) -> Array:
    """What `LogMel.normalise` does, over (B, columns, mels) at once, from the running maxima (B,) before."""
    decay = np.log10(2.0) / HALF_LIFE_S * 0.01
    maximum = np.full(len(raw), MAX_FLOOR_LOG10, np.float32) if maximum is None else maximum
    out = np.empty_like(raw)
    for i in range(raw.shape[1]):
        column = raw[:, i]
        maximum = np.maximum(np.maximum(column.max(1), maximum - decay), MAX_FLOOR_LOG10)
        top = maximum[:, None]
        out[:, i] = np.maximum(column, top - RANGE_LOG10) - top
    return np.asarray(out / (RANGE_LOG10 / 2) + 1.0, np.float32)


def augment(raw: Array, rng: np.random.Generator, *, hiss_share: float = 0.6) -> Array:
    """Another mouth, another microphone: warped bands, tilt, resonances, level, hiss, for (columns, mels) log10."""
    count = raw.shape[1]
    bands = np.arange(count, dtype=np.float32)
    if rng.random() < 0.8:
        source = np.clip(bands * float(np.exp(rng.normal(0.0, 0.11))), 0, count - 1)
        low = source.astype(np.int64)
        high = np.minimum(low + 1, count - 1)
        raw = raw[:, low] + (raw[:, high] - raw[:, low]) * (source - low)
    shape = rng.normal(0, 0.4) * (bands / count - 0.5)
    for _ in range(2):
        centre, width = rng.uniform(0, count), rng.uniform(0.05, 0.19) * count
        shape = shape + rng.normal(0, 0.25) * np.exp(-(((bands - centre) / width) ** 2))
    raw = raw + (shape + rng.uniform(-1.8, 0.7)).astype(np.float32)
    if rng.random() < hiss_share:
        hiss = raw.max() - rng.uniform(1.0, 5.0) + rng.normal(0, 0.4) * (bands / count - 0.5)
        raw = add_powers(raw, hiss + rng.normal(0, 0.25, raw.shape))
    return raw.astype(np.float32)


def mix_noise(raw: Array, level_log10: float, noise: SpeechItem, snr_db: float, rng: np.random.Generator) -> Array:
    """Add a stretch of noise at a ratio of mean powers; powers of unrelated sounds add."""
    length = len(raw)
    start = int(rng.integers(max(1, len(noise.raw) - length)))
    stretch = noise.raw[start : start + length].astype(np.float32)
    if len(stretch) < length:
        stretch = np.resize(stretch, raw.shape)
    return add_powers(raw, stretch + np.float32(level_log10 - noise.level_log10 - snr_db / 10))


def speech_level(raw: Array) -> float:
    """log10 mean power of the columns that are within 13 dB of the loudest."""
    power = (10.0 ** raw.astype(np.float64)).sum(1)
    return float(np.log10(power[power >= power.max() * 0.05].mean() + 1e-10))


def add_powers(a: Array, b: NDArray[np.floating]) -> Array:
    """log10(10^a + 10^b)."""
    return np.asarray(np.logaddexp(a * np.log(10), b * np.log(10)) / np.log(10), np.float32)


def _draw_row(bank: SpeechBank, columns: int, mix: MixConfig, rng: np.random.Generator) -> Row:
    draw = rng.random()
    alone = draw < mix.noise_share
    pool = bank.noise_alone if alone else bank.filmed if draw < mix.noise_share + mix.filmed_share else bank.spoken
    item = pool[int(rng.integers(len(pool)))]
    end, shift = _draw_end(item, rng), 0
    if item.motion is not None and rng.random() < mix.shifted_share:
        moved = end + int(rng.integers(-mix.shift_columns, mix.shift_columns + 1))
        moved = int(np.clip(moved, 4, len(item.raw)))
        end, shift = moved, moved - end
    raw = _cut(item.raw, end, columns + HISTORY_COLUMNS, SILENCE_LOG10).astype(np.float32)
    raw = augment(raw, rng, hiss_share=0.2)
    if not alone and bank.noise and rng.random() < mix.mixed_share:
        noise = bank.noise[int(rng.integers(len(bank.noise)))]
        raw = mix_noise(raw, speech_level(raw), noise, float(rng.uniform(*mix.snr_db)), rng)
    popped = rng.random() < mix.popped_share
    maximum = float(raw.max()) + float(rng.uniform(0, mix.pop_log10)) if popped else MAX_FLOOR_LOG10
    return Row(raw, item, end, shift, maximum)


def _draw_end(item: SpeechItem, rng: np.random.Generator) -> int:
    return 4 * int(rng.integers(min(6, len(item.raw) // 4), len(item.raw) // 4 + 1))


def _place_motion(target: Array, motion: Array, end_frame: int) -> None:
    """Write the frames before `end_frame` into `target`, whose last row is the frame before it."""
    for offset in range(len(target)):
        frame = end_frame - len(target) + offset
        if 0 <= frame < len(motion):
            target[offset] = motion[frame]


def _cut(values: NDArray[np.generic], end: int, length: int, fill: float) -> NDArray[np.generic]:
    """The `length` rows before `end`, padded in front."""
    start = end - length
    part = values[max(0, start) : end]
    if start >= 0:
        return part
    return np.concatenate([np.full((-start, values.shape[1]), fill, values.dtype), part])
