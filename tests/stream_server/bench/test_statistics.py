"""Percentiles, gaps and fairness of numbers whose answer is known."""

from __future__ import annotations

import pytest

from stream_server.bench.errors import BenchError
from stream_server.bench.statistics import gaps_ms, jain_index, percentiles


def test_percentiles_of_a_ramp() -> None:
    assert percentiles([float(x) for x in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_no_values_is_an_error_and_no_figure() -> None:
    with pytest.raises(BenchError, match="nothing was measured"):
        percentiles([])


def test_gaps_keep_nanoseconds_of_large_clocks() -> None:
    start = 2**62
    assert gaps_ms([start, start + 40_000_000, start + 40_000_001]).tolist() == [40.0, 1e-6]


@pytest.mark.parametrize(
    ("shares", "index"), [([25, 25, 25], 1.0), ([25, 0], 0.5), ([25, 0, 0, 0], 0.25), ([0, 0], 1.0), ([30, 10], 0.8)]
)
def test_fairness(shares: list[float], index: float) -> None:
    assert jain_index(shares) == pytest.approx(index)


@pytest.mark.parametrize("shares", [[], [1.0, -1.0]])
def test_fairness_of_nonsense_is_refused(shares: list[float]) -> None:
    with pytest.raises(BenchError, match="fairness"):
        jain_index(shares)
