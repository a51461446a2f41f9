"""A synthetic sentence in another speaker's time: each of its phones falls on that speaker's own.

So that a voice says exactly what a filmed mouth does. WORLD (`model.data.revoice`) analyses the sentence; its rows are
read along a monotone, piecewise linear time map through the edges of matched phones, and spoken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.phone_matching import PhoneRun, match_phones, phone_runs
from model.data.revoice import FRAME_PERIOD_MS, VoiceAnalysis, analyse, synthesise
from model.data.utterance import Utterance
from model.errors import DataError
from model.speech.log_mel import HOP_SAMPLES, SAMPLE_RATE
from model.speech.phonemes import SILENCE_INDEX

__all__ = ["retime", "time_map", "warp"]

STRETCH: Final = (0.3, 4.0)
"""Least and greatest local stretch aimed at: WORLD's rows sound blurred beyond."""
MAX_EDGE_SHIFT: Final = 1.5
"""How far (columns, 15 ms) the edge of a spoken phone may be moved towards that aim. Phone edges are no sharper."""
MAX_FIRST_STRETCH: Final = 2.0
"""Of the sentence's first phone: GRID's labels start it in the breath before (the l of "lay" lasts 0.27 s, median)."""
_ROWS_PER_COLUMN: Final = HOP_SAMPLES * 1000.0 / SAMPLE_RATE / FRAME_PERIOD_MS
_ROW_SAMPLES: Final = round(FRAME_PERIOD_MS * SAMPLE_RATE / 1000)


def retime(utterance: Utterance, wanted: NDArray[np.int64], samples: int) -> Utterance:
    """The utterance, (samples,) long, saying the phones of `wanted` when they are wanted; it gets their columns.

    Silences last as long as they are wanted to and are as quiet as the utterance's own quietest moment; speech is as
    loud as it was. The first phone may start later than wanted (see `MAX_FIRST_STRETCH`); its columns then say so.

    Args:
        utterance: The same sentence, with its own phone times.
        wanted: (columns,) phoneme index for each 10 ms.
        samples: Length to make, at 16 kHz; at least the columns' own.

    Raises:
        PhoneMismatchError: The utterance says something else.
        DataError: There are more columns than samples, or pyworld is not installed.
    """
    if samples < len(wanted) * HOP_SAMPLES:
        raise DataError(f"{samples} samples do not hold {len(wanted)} columns; give {HOP_SAMPLES} for each or more")
    columns = _start_late(utterance.phonemes, wanted)
    audio = synthesise(warp(analyse(utterance.audio), utterance.phonemes, columns, samples))
    return replace(utterance, audio=audio, phonemes=columns)


def warp(analysis: VoiceAnalysis, spoken: NDArray[np.int64], wanted: NDArray[np.int64], samples: int) -> VoiceAnalysis:
    """What WORLD found, in the time of `wanted`. PhoneMismatchError when `spoken` and `wanted` differ."""
    wanted_xs, spoken_xs = time_map(spoken, wanted)
    columns = np.arange(samples // _ROW_SAMPLES + 1) / _ROWS_PER_COLUMN
    position = _read_map(columns, wanted_xs, spoken_xs)
    warped = _read_rows(analysis, position * _ROWS_PER_COLUMN)
    in_pause = _labels_at(wanted, columns) == SILENCE_INDEX
    gaps = in_pause & (_labels_at(spoken, position) != SILENCE_INDEX)  # a pause that the utterance did not make
    warped.f0_hz[gaps], warped.aperiodicity[gaps] = 0.0, 1.0
    warped.envelope[gaps] = analysis.envelope[analysis.envelope.sum(1).argmin()]
    share = np.mean(wanted != SILENCE_INDEX) * len(wanted) * HOP_SAMPLES / samples
    loudness = analysis.rms * float(np.sqrt(share / np.mean(spoken != SILENCE_INDEX)))
    return replace(warped, num_samples=samples, rms=loudness)


def time_map(spoken: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times (columns of 10 ms) in `wanted`, and when in `spoken` the same sounds; neither ever falls.

    Outside the first and last pair both run at the same pace. Where two pairs share a time of `wanted`, a pause that
    is not wanted is skipped.

    Raises:
        PhoneMismatchError: The phones are not those of one sentence.
    """
    said, asked = phone_runs(spoken), phone_runs(wanted)
    groups = match_phones([r.name for r in said], [r.name for r in asked])
    spans_said = np.array([_span(said, g.spoken) for g in groups], np.float64)
    spans_asked = np.array([_span(asked, g.wanted) for g in groups], np.float64)
    return spans_asked.ravel(), _soften(spans_said, spans_asked).ravel()


def _start_late(spoken: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """`wanted` without what the first phone is too long for."""
    said, asked = phone_runs(spoken)[:1], phone_runs(wanted)[:1]
    late = wanted.copy()
    if said and asked:
        longest = round((said[0].end - said[0].start) * MAX_FIRST_STRETCH)
        late[asked[0].start : max(asked[0].start, asked[0].end - longest)] = SILENCE_INDEX
    return late


def _span(runs: Sequence[PhoneRun], group: tuple[int, int]) -> tuple[int, int]:
    return runs[group[0]].start, runs[group[1] - 1].end


def _soften(said: NDArray[np.float64], asked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spans (groups, 2) of `said` with their shared edges moved, within `MAX_EDGE_SHIFT`, towards a milder stretch."""
    soft = said.copy()
    least, most = (np.diff(asked)[:, 0] / limit for limit in reversed(STRETCH))
    for k in range(len(soft) - 1):
        if said[k, 1] != said[k + 1, 0]:
            continue  # a pause lies between
        lengths = soft[k : k + 2, 1] - soft[k : k + 2, 0]
        aims = np.clip(lengths, least[k : k + 2], most[k : k + 2])
        shift = float(np.clip(((aims - lengths)[0] - (aims - lengths)[1]) / 2, -MAX_EDGE_SHIFT, MAX_EDGE_SHIFT))
        shift = float(np.clip(shift, -lengths[0] / 2, lengths[1] / 2))
        soft[k, 1] += shift
        soft[k + 1, 0] += shift
    return soft


def _read_map(
    columns: NDArray[np.float64], wanted_xs: NDArray[np.float64], spoken_xs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """When in the utterance the sound of each time comes from."""
    inside = np.interp(columns, wanted_xs, spoken_xs)
    before, after = np.minimum(columns - wanted_xs[0], 0.0), np.maximum(columns - wanted_xs[-1], 0.0)
    return np.asarray(np.maximum(inside + before + after, 0.0))


def _labels_at(labels: NDArray[np.int64], columns: NDArray[np.float64]) -> NDArray[np.int64]:
    return labels[np.clip(columns.astype(np.int64), 0, len(labels) - 1)]


def _read_rows(analysis: VoiceAnalysis, rows: NDArray[np.float64]) -> VoiceAnalysis:
    """Rows at fractional places: linear (the envelope in log); pitch only between voiced rows, else the nearer one."""
    last = len(analysis.f0_hz) - 1
    below = np.clip(rows.astype(np.int64), 0, last)
    above, nearer = np.minimum(below + 1, last), np.clip(np.rint(rows).astype(np.int64), 0, last)
    share = np.clip(rows - below, 0.0, 1.0)[:, None]
    f0_hz, tone = analysis.f0_hz, (analysis.f0_hz[below] > 0) & (analysis.f0_hz[above] > 0)
    mixed_hz = f0_hz[below] * (1 - share[:, 0]) + f0_hz[above] * share[:, 0]
    log = np.log(analysis.envelope)
    rough = analysis.aperiodicity
    same_voicing = ((f0_hz[below] > 0) == (f0_hz[above] > 0))[:, None]
    return replace(
        analysis,
        f0_hz=np.where(tone, mixed_hz, f0_hz[nearer]),
        envelope=np.exp(log[below] * (1 - share) + log[above] * share),
        aperiodicity=np.where(same_voicing, rough[below] * (1 - share) + rough[above] * share, rough[nearer]),
    )
