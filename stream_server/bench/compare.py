"""Is it slower than it was? Ratios of now against those committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.results import Figure
from stream_server.bench.errors import BenchError

__all__ = ["Change", "changes", "table"]


@dataclass(frozen=True, slots=True)
class Change:
    """A ratio then and now; `worse` is by how much, as a share of the baseline (negative: it is better)."""

    name: str
    then: float
    now: float
    worse: float


def changes(baseline: Mapping[str, Figure], now: Mapping[str, Figure]) -> list[Change]:
    """Ratios in both, the worst first.

    Raises:
        BenchError: There is none: the baseline is of a machine with other instructions.
    """
    found = []
    for name in baseline.keys() & now.keys():
        then, value = baseline[name].value, now[name].value
        worse = then / value - 1.0 if baseline[name].better == "higher" else value / then - 1.0
        found.append(Change(name, then, value, worse))
    if not found:
        raise BenchError("none of the baseline's ratios was measured here: make one with --write")
    return sorted(found, key=lambda change: (-change.worse, change.name))


def table(found: list[Change], missing: list[str], tolerance: float) -> list[str]:
    """Lines for people; what this machine lacks is named below."""
    lines = [f"{'ratio':44s} {'baseline':>9s} {'now':>9s} {'worse by':>9s}"]
    for change in found:
        verdict = "  WORSE" if change.worse > tolerance else ""
        lines.append(f"{change.name:44s} {change.then:9.3f} {change.now:9.3f} {change.worse:+9.1%}{verdict}")
    if missing:
        lines.append(f"not measured here: {', '.join(missing)}")
    return lines
