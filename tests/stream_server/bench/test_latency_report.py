"""Figures of a long call: whether sound and picture drift apart; details stay small."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from stream_server.bench.latency_report import call_details, call_figures
from tests.stream_server.call_records import call


def figures_of(seconds: int, *, ms_per_minute: float) -> dict[str, float]:
    """Of a call whose picture falls behind its sound by so much."""
    shown = np.arange(0, seconds, 0.04)
    found = call_figures(call(list(shown), list(5.0 + shown / 60 * ms_per_minute)))
    return {name: figure.value for name, figure in found.items()}


@pytest.mark.parametrize("ms_per_minute", [0.0, 2.0, -3.0])
def test_a_picture_that_drifts_from_its_sound_is_found(ms_per_minute: float) -> None:
    between_thirds_min = 300 / 60 * 2 / 3
    drift = figures_of(300, ms_per_minute=ms_per_minute)["av_offset_drift"]
    assert drift == pytest.approx(abs(ms_per_minute) * between_thirds_min, abs=0.02)


def test_a_short_call_says_nothing_of_drift() -> None:
    assert not [name for name in figures_of(60, ms_per_minute=2.0) if "drift" in name]


def test_details_of_a_long_call_keep_traces_of_all_its_parts() -> None:
    traces = [{"frame": n, "total_ms": 3.0, "stages_ms": {"queue": 1.0, "engine": 2.0}} for n in range(301)]
    record = dataclasses.replace(call([0.0, 1.0], [1.0, 1.0]), traces=traces)
    kept = [trace["frame"] for trace in call_details(record)["traces"]]
    assert 40 <= len(kept) <= 50 and kept[0] == 0 and kept[-1] >= 294
