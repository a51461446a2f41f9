"""Figures of virtual days."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pydantic import JsonValue

from model.results import Figure
from stream_server.bench.virtual_day import DayMeasures

__all__ = ["day_details", "day_figures"]

_GOALS = {
    "worst_drift": 5.0,
    "state_grown": 16_384.0,
    "objects_grown": 1000.0,
    "most_waiting_packets": 4.0,
    "most_waiting_frames": 20.0,
    "most_hops_behind": 9.0,
    "timestamps_wrong": 0.0,
    "sound_missing": 0.0,
}
"""Promised; queue sizes are their capacities (hops: six that wait, two in flight, the one being gathered)."""


def day_figures(days: Iterable[DayMeasures]) -> dict[str, Figure]:
    """Figures `skew_+100.NAME`."""
    figures = {}
    for day in days:
        values = {
            "worst_drift": (day.worst_drift_ms, "ms"),
            "worst_calm_packet": (max(hour.worst_calm_ms for hour in day.hours), "ms"),
            "state_grown": (day.grown_bytes, "B"),
            "objects_grown": (day.grown_objects, "objects"),
            "most_waiting_packets": (day.most_waiting_packets, "packets"),
            "most_waiting_frames": (day.most_waiting_frames, "frames"),
            "most_hops_behind": (day.most_hops_behind, "hops"),
            "longest_still": (day.longest_still_ms, "ms"),
            "sound_missing": (day.counters.audio_missing, "samples"),
            "timestamps_wrong": (day.timestamps_wrong, "timestamps"),
            "packets": (day.packets, "packets"),
            "sequence_wraps": (day.sequence_wraps, "wraps"),
            "sound_timestamp_wraps": (day.sound_timestamp_wraps, "wraps"),
            "video_timestamp_wraps": (day.video_timestamp_wraps, "wraps"),
        }
        for name, (value, unit) in values.items():
            goal = _GOALS.get(name)
            better = "higher" if unit == "wraps" or name == "packets" else "lower"
            key = f"skew_{day.skew_ppm:+g}.{name}"
            figures[key] = Figure(value=float(value), unit=unit, goal=goal, better=better)  # type: ignore[arg-type]
    return figures


def day_details(days: Iterable[DayMeasures]) -> JsonValue:
    """Every hour, and what was counted."""
    return {f"skew_{day.skew_ppm:+g}": dataclasses.asdict(day) for day in days}
