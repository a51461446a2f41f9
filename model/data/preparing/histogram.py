"""Histograms of numbers that come one at a time, drawn as inline SVG."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field

from model.errors import ConfigError

__all__ = ["Histogram", "HistogramSpec"]

WIDTH_PX, HEIGHT_PX = 360, 130
TOP_PX, BOTTOM_PX, SIDE_PX = 16, 20, 6  # room for the highest count, the axis, and half a label


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSpec:
    """A number in the clips' rows, and how to show its spread."""

    field: str  # key in `ClipOutcome.row`
    title: str
    unit: str
    low: float  # left edge of the first bin
    high: float  # right edge of the last; counted into it
    bins: int = 24

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high and self.bins >= 1):
            raise ConfigError(
                f"histogram {self.field}: need low < high and bins >= 1, got {self.low}, {self.high}, {self.bins}"
            )


@dataclass(slots=True)
class Histogram:
    """Counts so far; its size does not grow with what is added."""

    spec: HistogramSpec
    counts: list[int] = field(init=False)
    below: int = 0
    above: int = 0
    without: int = 0  # clips whose row has no such number
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * self.spec.bins

    @property
    def number(self) -> int:
        """Values added."""
        return sum(self.counts) + self.below + self.above

    def add(self, value: object) -> None:
        """Count a value of a row; anything but a finite number counts as missing."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.without += 1
            return
        self.total += value
        spec = self.spec
        if value < spec.low:
            self.below += 1
        elif value > spec.high:
            self.above += 1
        else:
            position = (value - spec.low) / (spec.high - spec.low) * spec.bins
            self.counts[min(int(position), spec.bins - 1)] += 1

    def figure(self) -> str:
        """An HTML figure: bars, axis, and a line of text with mean and what lies outside."""
        return (
            f"<figure><figcaption>{html.escape(self.spec.title)}"
            f" <small>{html.escape(self.spec.unit)}</small></figcaption>{self._svg()}<p>{self._summary()}</p></figure>"
        )

    def _svg(self) -> str:
        spec, highest = self.spec, max(*self.counts, 1)
        step = (WIDTH_PX - 2 * SIDE_PX) / spec.bins
        floor_px = HEIGHT_PX - BOTTOM_PX
        bars = []
        for index, count in enumerate(self.counts):
            height = count / highest * (floor_px - TOP_PX)
            left, right = (self._edge(index + side) for side in (0, 1))
            bars.append(
                f'<rect x="{SIDE_PX + index * step + 0.5:.2f}" y="{floor_px - height:.2f}" width="{step - 1:.2f}" '
                f'height="{height:.2f}"><title>{left} to {right}: {count}</title></rect>'
            )
        ticks = [
            f'<text x="{SIDE_PX + part * (WIDTH_PX - 2 * SIDE_PX):.1f}" y="{HEIGHT_PX - 5}" text-anchor="{anchor}">'
            f"{self._edge(part * spec.bins)}</text>"
            for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
        ]
        return (
            f'<svg viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" role="img" aria-label="{html.escape(spec.title)}">'
            f'<text x="{SIDE_PX}" y="11">{max(self.counts)}</text>{"".join(bars)}'
            f'<line x1="{SIDE_PX}" x2="{WIDTH_PX - SIDE_PX}" y1="{floor_px}" y2="{floor_px}"/>{"".join(ticks)}</svg>'
        )

    def _edge(self, position: float) -> str:
        """The value at a bin's edge, counted from the left."""
        return f"{self.spec.low + position / self.spec.bins * (self.spec.high - self.spec.low):.4g}"

    def _summary(self) -> str:
        parts = [f"{self.number} clips"]
        if self.number:
            parts.append(f"mean {self.total / self.number:.4g}")
        outside = ((self.below, f"below {self.spec.low:g}"), (self.above, f"above {self.spec.high:g}"))
        parts += [f"{count} {where}" for count, where in (*outside, (self.without, "without a value")) if count]
        return ", ".join(parts)
