"""Small statistics on times and rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_server.bench.errors import BenchError

__all__ = ["drift", "gaps_ms", "jain_index", "percentiles"]


def percentiles(
    values: Sequence[float] | NDArray[np.float64], wanted: Sequence[int] = (50, 95, 99)
) -> dict[str, float]:
    """`{"p50": ...}` of at least one value.

    Raises:
        BenchError: There is no value.
    """
    if len(values) == 0:
        raise BenchError("nothing was measured: no values to take percentiles of")
    return {f"p{q}": float(np.percentile(values, q)) for q in wanted}


def gaps_ms(times_ns: Sequence[int]) -> NDArray[np.float64]:
    """(n - 1,) milliseconds between successive moments."""
    times = np.asarray(times_ns, np.int64)
    return np.asarray((times[1:] - times[:-1]) / 1e6)


def drift(values: Sequence[float] | NDArray[np.float64]) -> float:
    """How far the last third's median is from the first third's, without its sign.

    Raises:
        BenchError: There is no value.
    """
    if len(values) == 0:
        raise BenchError("nothing was measured: no values to take a drift of")
    third = max(1, len(values) // 3)
    return abs(float(np.median(values[-third:]) - np.median(values[:third])))


def jain_index(shares: Sequence[float]) -> float:
    """Fairness of shares, 1/n (one has all) .. 1 (all the same): (sum x)^2 / (n sum x^2), Jain et al. 1984.

    Raises:
        BenchError: There is no share, or one is negative.
    """
    if not shares or min(shares) < 0:
        raise BenchError(f"fairness needs shares of at least 0, got {list(shares)}")
    squares = sum(x * x for x in shares)
    return 1.0 if squares == 0 else sum(shares) ** 2 / (len(shares) * squares)
