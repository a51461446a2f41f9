"""Figures of a soak: growth of each process with its confidence, drift of the calls, minutes in details."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from scipy.stats import t as student_t

from model.results import Figure
from stream_server.bench.soak import Minute, Sample, SoakRun
from stream_server.bench.statistics import drift

__all__ = ["Slope", "slope", "soak_details", "soak_figures"]

_WARM_SHARE = 0.2
"""What the first fifth allocates (caches, heaps that find their size) is no growth."""
_MOST_GROWTH_PERCENT = 1.0  # an hour
_MOST_LATENCY_DRIFT_MS = 10.0
_MOST_AV_DRIFT_MS = 5.0
_LEAST_FPS = 24.0
_SAMPLES_A_BLOCK = 3  # neighbours resemble each other: means of half a minute count once


@dataclasses.dataclass(frozen=True, slots=True)
class Slope:
    """Per second, with its 95 % interval."""

    value: float
    low: float
    high: float


def slope(at_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Of a line through means of neighbouring samples (least squares, Student's t); at least 9 samples."""
    count = len(at_s) // _SAMPLES_A_BLOCK
    x, y = _block_means(at_s, count), _block_means(values, count)
    spread = x - x.mean()
    value = float((spread * y).sum() / (spread**2).sum())
    rest = y - y.mean() - value * spread
    error = float(np.sqrt((rest**2).sum() / (count - 2) / (spread**2).sum()))
    half = float(student_t.ppf(0.975, count - 2)) * error
    return Slope(value, value - half, value + half)


def _block_means(values: Sequence[float], count: int) -> NDArray[np.float64]:
    """The last whole blocks' means."""
    kept = np.asarray(values, np.float64)[-count * _SAMPLES_A_BLOCK :]
    return np.asarray(kept.reshape(count, _SAMPLES_A_BLOCK).mean(axis=1))


def soak_figures(run: SoakRun) -> dict[str, Figure]:
    """Figures by name; growth of memory in percent an hour."""
    figures = {}
    warm = [sample for sample in run.samples if sample.at_s >= _WARM_SHARE * run.samples[-1].at_s]
    for role, memory in _series(warm, "memory_bytes").items():
        mean = float(np.mean(memory))
        found = slope([sample.at_s for sample in warm], memory)
        percent = 3600.0 * 100.0 / mean
        figures[f"{role}.memory_growth"] = Figure(
            value=round(found.value * percent, 6),  # a level line has a slope of 1e-14
            unit="%/h",
            goal=_MOST_GROWTH_PERCENT,
            better="lower",
            interval=(round(found.low * percent, 6), round(found.high * percent, 6)),
        )
        figures[f"{role}.memory"] = Figure(value=mean / 1e6, unit="MB", better="lower")
    for name in ("descriptors", "threads"):
        for role, counts in _series(warm, name).items():
            more = float(np.median(counts[-6:]) - np.median(counts[:6]))
            figures[f"{role}.{name}_growth"] = Figure(value=more, unit=name, goal=0.0, better="lower")
    return figures | _call_figures(run.calls)


def _series(samples: list[Sample], name: str) -> dict[str, list[float]]:
    """Values by role, of processes that were there the whole time; two of one role are told apart by number."""
    found: dict[str, list[float]] = {}
    for pid in sorted(set.intersection(*({one.pid for one in sample.processes} for sample in samples))):
        same = [next(one for one in sample.processes if one.pid == pid) for sample in samples]
        role = same[0].role
        while role in found:
            role += "+"
        found[role] = [float(getattr(one, name)) for one in same]
    return found


def _call_figures(calls: list[list[Minute]]) -> dict[str, Figure]:
    """Of the call that fares worst; drift is the last third's median against the first third's."""
    worst_fps = min(minute.fps for call in calls for minute in call)
    still = max(minute.longest_still_ms for call in calls for minute in call)
    latency = [drift([minute.latency_ms for minute in call]) for call in calls]
    offset = [drift([minute.av_offset_ms for minute in call]) for call in calls]
    mean_fps = min(float(np.mean([minute.fps for minute in call])) for call in calls)
    return {
        "fps": Figure(value=mean_fps, unit="fps", goal=_LEAST_FPS, better="higher"),
        "worst_minute_fps": Figure(value=worst_fps, unit="fps", better="higher"),
        "longest_still": Figure(value=still, unit="ms", better="lower"),
        "latency": Figure(
            value=float(np.median([minute.latency_ms for call in calls for minute in call])), unit="ms", better="lower"
        ),
        "latency_drift": Figure(value=max(latency), unit="ms", goal=_MOST_LATENCY_DRIFT_MS, better="lower"),
        "av_offset_drift": Figure(value=max(offset), unit="ms", goal=_MOST_AV_DRIFT_MS, better="lower"),
        "minutes": Figure(value=float(min(map(len, calls))), unit="min", better="higher"),
    }


def soak_details(run: SoakRun) -> JsonValue:
    """Minutes of the calls; columns by name: memory, descriptors and threads of each process at the end of a minute."""
    last = {int(sample.at_s // 60.0): place for place, sample in enumerate(run.samples)}
    processes: dict[str, JsonValue] = {}
    for name in ("memory_bytes", "descriptors", "threads"):
        for role, values in _series(run.samples, name).items():
            processes[f"{role}.{name}"] = [round(values[place]) for place in last.values()]
    calls = [[{k: float(f"{v:.5g}") for k, v in dataclasses.asdict(one).items()} for one in call] for call in run.calls]
    return {
        "calls": calls,  # type: ignore[dict-item]
        "sampled_s": [round(run.samples[place].at_s, 1) for place in last.values()],
        "processes": processes,
        "lost_packets": run.lost_packets,
        "interrupted": run.interrupted,
    }
