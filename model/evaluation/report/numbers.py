"""Figures in HTML: three digits to read, the exact number in the markup, goals in words."""

from __future__ import annotations

import html

from model.evaluation.tables import Metric
from model.results import Figure

__all__ = ["direction", "goal_words", "number", "signed", "unit_words"]

ROUNDING = 1e-12  # below it, what is left of sums of numbers around 1
BARE_UNITS = ("", "1", "r")  # said by the metric's name already


def number(value: float) -> str:
    """Three digits; the exact value stands in the element's `value`."""
    return f'<data value="{value!r}">{_short(value)}</data>'


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f'<data value="{value!r}">{"+" if value >= 0 else ""}{_short(value)}</data>'


def unit_words(unit: str) -> str:
    """The unit as it stands behind a number, escaped; nothing for plain ratios and correlations."""
    return "" if unit in BARE_UNITS else f" {html.escape(unit)}"


def direction(metric: Metric) -> str:
    """Which way is better, as an arrow and in words; with an ideal, the way that methods usually have to go to it."""
    arrow, words = ("↑", "higher is better") if metric.better == "higher" else ("↓", "lower is better")
    return f"{arrow} {words if metric.ideal is None else f'best at {metric.ideal:g}'}"


def goal_words(figure: Figure) -> str:
    """Goal and whether it is met, in words and as a mark; `no goal` where there is none."""
    if figure.goal is None:
        return '<span class="quiet">no goal</span>'
    sign = "≥" if figure.better == "higher" else "≤"
    kind, words = ("miss", "✗ missed") if figure.missed else ("hit", "✓ hit")
    return f'<span class="{kind}">{words}: goal {sign} {figure.goal:g}</span>'


def _short(value: float) -> str:
    if abs(value) < ROUNDING:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
