"""Figures of calls with faults, and the tables of docs/reliability.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pydantic import JsonValue

from model.results import Figure, Results
from stream_server.bench.faults import FAULTS, MOST_SHIFT_MS, PROCESS_FAULTS, FaultMeasures

__all__ = ["fault_details", "fault_figures", "fault_table", "marked", "process_fault_table"]

_COLUMNS = (
    "longest_freeze",
    "longest_freeze_before",
    "longest_without_new_frame",
    "longest_without_new_frame_before",
    "av_shift",
)


def fault_figures(found: Mapping[str, FaultMeasures]) -> dict[str, Figure]:
    """Figures `FAULT.name`; goals are the promises."""
    figures = {}
    for name, measured in found.items():
        process = PROCESS_FAULTS.get(name)
        promise = FAULTS[name].most_freeze_ms if process is None else process.most_freeze_ms
        most_still = None if process is None else process.most_still_ms
        freeze, still = measured.freeze_ms, measured.still_ms
        figures[f"{name}.longest_freeze"] = Figure(value=freeze, unit="ms", goal=promise, better="lower")
        figures[f"{name}.longest_freeze_before"] = Figure(value=measured.freeze_before_ms, unit="ms", better="lower")
        figures[f"{name}.longest_without_new_frame"] = Figure(value=still, unit="ms", goal=most_still, better="lower")
        figures[f"{name}.longest_without_new_frame_before"] = Figure(
            value=measured.still_before_ms, unit="ms", better="lower"
        )
        figures[f"{name}.av_shift"] = Figure(value=measured.shift_ms, unit="ms", goal=MOST_SHIFT_MS, better="lower")
        figures[f"{name}.fps"] = Figure(value=measured.fps, unit="fps", better="higher")
        if measured.latency_before_ms is not None and measured.latency_after_ms is not None:
            later = measured.latency_after_ms - measured.latency_before_ms
            figures[f"{name}.latency_shift"] = Figure(value=later, unit="ms", better="lower")
    return figures


def fault_details(found: Mapping[str, FaultMeasures]) -> JsonValue:
    """Everything measured, packets counted by the relay included."""
    return {name: dataclasses.asdict(measured) for name, measured in found.items()}


def fault_table(results: Results) -> list[str]:
    """Markdown lines: each fault's promises beside what was measured."""
    lines = [
        "| network, both ways | freeze, promised | measured | calm | no new frame | calm | A/V shift, promised | "
        "measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, fault in FAULTS.items():
        if f"{name}.longest_freeze" not in results.figures:
            continue
        freeze, calm, still, still_calm, shift = (results.figures[f"{name}.{figure}"] for figure in _COLUMNS)
        lines.append(
            f"| {fault.title} | {freeze.goal:.0f} ms | {marked(freeze)} | {calm.value:.0f} ms | "
            f"{still.value:.0f} ms | {still_calm.value:.0f} ms | {shift.goal:.0f} ms | {marked(shift, 1)} |"
        )
    return lines


def process_fault_table(results: Results) -> list[str]:
    """The same of processes that stop; empty if none was measured."""
    rows = []
    for name, fault in PROCESS_FAULTS.items():
        if f"{name}.longest_freeze" not in results.figures:
            continue
        freeze, _, still, _, shift = (results.figures[f"{name}.{figure}"] for figure in _COLUMNS)
        rows.append(
            f"| {fault.title} | {freeze.goal:.0f} ms | {marked(freeze)} | {still.goal:.0f} ms | {marked(still)} | "
            f"{shift.goal:.0f} ms | {marked(shift, 1)} |"
        )
    if not rows:
        return []
    head = (
        "| process | freeze, promised | measured | no new frame, promised | measured | A/V shift, promised | measured |"
    )
    return [head, "|---|---|---|---|---|---|---|", *rows]


def marked(figure: Figure, digits: int = 0) -> str:
    """Its value in ms, and whether it misses its promise."""
    return f"{figure.value:.{digits}f} ms" + (" **missed**" if figure.missed else "")
