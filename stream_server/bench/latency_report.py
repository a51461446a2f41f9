"""Figures of a measured call, in the one schema of results."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.results import Figure
from stream_server.bench.latency import CallMeasures, own_lag_ms
from stream_server.bench.statistics import drift, percentiles

__all__ = ["call_details", "call_figures"]

_GOAL_OWN_MS = {"p50": 120.0, "p95": 230.0}
_GOAL_LOW_LATENCY_MS = {"p50": 200.0}
_GOAL_AV_OFFSET_MS = 40.0
_GOAL_FPS = 24.0
_GOAL_FIRST_FRAME_S = 1.0
_GOAL_DRIFT_MS = 5.0
_LEAST_S_FOR_DRIFT = 120.0
_MOST_TRACES_KEPT = 50


def call_figures(measured: CallMeasures, prefix: str = "", *, low_latency: bool = False) -> dict[str, Figure]:
    """Figures by name; the low-latency profile has a goal for the whole. Stages are medians over the call's traces.

    Drift, the last third of the call against the first, is told of calls of two minutes or more.
    """
    figures: dict[str, Figure] = {}

    def add(name: str, value: float, unit: str, goal: float | None = None, *, higher: bool = False) -> None:
        figures[prefix + name] = Figure(
            value=float(value), unit=unit, goal=goal, better="higher" if higher else "lower"
        )

    for name, value in percentiles(measured.latency_ms).items():
        add(f"microphone_to_mouth_{name}", value, "ms", _GOAL_LOW_LATENCY_MS.get(name) if low_latency else None)
    for name, value in percentiles(own_lag_ms(measured)).items():
        add(f"microphone_to_mouth_own_{name}", value, "ms", _GOAL_OWN_MS.get(name))
    add("algorithmic_delay", measured.algorithmic_ms, "ms")
    for name, value in percentiles(np.abs(measured.av_offset_ms), (50, 95)).items():
        add(f"av_offset_{name}", value, "ms", _GOAL_AV_OFFSET_MS if name == "p95" else None)
    if len(measured.av_offset_reports_ms):
        for name, value in percentiles(np.abs(measured.av_offset_reports_ms), (50, 95)).items():
            add(f"av_offset_by_sender_reports_{name}", value, "ms", _GOAL_AV_OFFSET_MS if name == "p95" else None)
    if measured.shown_s[-1] - measured.shown_s[0] >= _LEAST_S_FOR_DRIFT:
        add("av_offset_drift", drift(measured.av_offset_ms), "ms", _GOAL_DRIFT_MS)
        add("latency_drift", drift(measured.latency_ms), "ms")
    add("fps", measured.fps, "fps", _GOAL_FPS, higher=True)
    for name, value in percentiles(measured.new_frame_gaps_ms, (50, 95)).items():
        add(f"frame_interval_{name}", value, "ms")
    add("longest_freeze", measured.longest_freeze_ms, "ms")
    add("frames_repeated", measured.repeated, "frames")
    add("frames_skipped", measured.skipped, "frames")
    add("time_codes_unread", measured.unread, "frames")
    add("offer_to_first_frame", measured.offer_to_frame_s, "s", _GOAL_FIRST_FRAME_S)
    add("offer_to_ready", measured.offer_to_ready_s, "s")
    add("video_bytes_per_s", measured.video_bytes_per_s, "B/s")
    add("sound_bytes_per_s", measured.sound_bytes_per_s, "B/s")
    add("own_microphone_late_p95", measured.microphone_late_p95_ms, "ms")
    for name, value in stage_medians(measured).items():
        add(f"stage_{name}", value, "ms")
    return figures


def stage_medians(measured: CallMeasures) -> dict[str, float]:
    """Median of each stage over the traces, in their order; empty without traces."""
    names = list(measured.traces[0]["stages_ms"]) if measured.traces else []
    return {name: float(np.median([trace["stages_ms"][name] for trace in measured.traces])) for name in names}


def call_details(measured: CallMeasures) -> dict[str, Any]:
    """What the figures were made of: size and up to 50 traces, evenly; each trace's stages sum to its total."""
    every = max(1, -(-len(measured.traces) // _MOST_TRACES_KEPT))
    traces = [
        {
            "frame": trace["frame"],
            "total_ms": round(trace["total_ms"], 3),
            "stages_ms": {name: round(value, 3) for name, value in trace["stages_ms"].items()},
        }
        for trace in measured.traces[::every]
    ]
    return {"size": measured.size, "frames": len(measured.latency_ms), "traces": traces}
