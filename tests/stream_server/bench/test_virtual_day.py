"""A day in virtual time: bounded queues, no drift, wrapped numbers found again; the committed day too."""

from __future__ import annotations

import pytest

from stream_server.bench.virtual_day import run_day
from stream_server.bench.virtual_day_report import day_figures


def check_day(hours: float, skew_ppm: float) -> None:
    day = run_day(hours, skew_ppm=skew_ppm)
    missed = {name: figure.value for name, figure in day_figures([day]).items() if figure.missed}
    assert missed == {}
    assert day.sequence_wraps >= hours * 2.5
    assert day.video_timestamp_wraps >= 1
    assert day.sound_timestamp_wraps >= 1
    assert day.counters.packets_concealed > 50  # it was no calm day
    assert day.counters.blocks_filled > 50
    assert day.counters.packets_stale > 50
    assert day.longest_still_ms <= 420.0  # the model's own stall


def test_ten_minutes_with_everything_in_them() -> None:
    check_day(0.17, 100.0)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("skew_ppm", [100.0, -100.0])
def test_a_day(skew_ppm: float) -> None:
    check_day(24.0, skew_ppm)
