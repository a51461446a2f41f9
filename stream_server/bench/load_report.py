"""Figures of a load measurement and of a watched WHEP server."""

from __future__ import annotations

import dataclasses

from pydantic import JsonValue

from model.results import Figure
from stream_server.bench.load import LoadRun
from stream_server.bench.whep import WhepMeasures

__all__ = ["load_details", "load_figures", "whep_figures"]


def load_figures(run: LoadRun) -> dict[str, Figure]:
    """Capacity, and each level's figures as `N_callers.name`."""
    figures = {"capacity": Figure(value=float(run.capacity), unit="callers", better="higher")}
    if run.retry_after_s is not None:
        figures["refusal_retry_after"] = Figure(value=run.retry_after_s, unit="s", better="lower")
    for level in run.levels:
        name = f"{level.sessions}_callers."
        goal = level.limit_ms if level.sessions <= run.capacity else None
        figures[name + "frame_interval_p50"] = Figure(value=max(level.intervals_p50_ms), unit="ms", better="lower")
        figures[name + "frame_interval_p95"] = Figure(value=level.worst_p95_ms, unit="ms", goal=goal, better="lower")
        figures[name + "fps_lowest"] = Figure(value=min(level.fps), unit="fps", better="higher")
        figures[name + "fairness"] = Figure(value=level.fairness, unit="Jain index", better="higher")
        figures[name + "first_frame"] = Figure(value=level.first_frame_s, unit="s", better="lower")
        if level.cpu_cores is not None:
            figures[name + "server_cpu"] = Figure(value=level.cpu_cores, unit="cores", better="lower")
        if level.memory_bytes is not None:
            figures[name + "server_memory"] = Figure(value=level.memory_bytes / 2**20, unit="MiB", better="lower")
    return figures


def load_details(run: LoadRun) -> JsonValue:
    """The levels as they were measured."""
    return {"levels": [dataclasses.asdict(level) for level in run.levels], "refused": run.refused}


def whep_figures(measured: WhepMeasures) -> dict[str, Figure]:
    """Figures of one watched stream."""
    return {
        "first_frame": Figure(value=measured.first_frame_s, unit="s", better="lower"),
        "frame_interval_p50": Figure(value=measured.interval_p50_ms, unit="ms", better="lower"),
        "frame_interval_p95": Figure(value=measured.interval_p95_ms, unit="ms", better="lower"),
        "frame_interval_longest": Figure(value=measured.longest_ms, unit="ms", better="lower"),
        "fps": Figure(value=measured.fps, unit="fps", better="higher"),
        "width": Figure(value=float(measured.width), unit="px", better="higher"),
        "height": Figure(value=float(measured.height), unit="px", better="higher"),
        "video_bytes_per_s": Figure(value=measured.bytes_per_s, unit="B/s", better="lower"),
    }
