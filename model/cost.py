"""What a corpus costs: measured processor seconds a sample (`benchmarks/bench_cost.py`), times the corpus's size.

Core-hours are hours of one core of the machine that was measured. Money is core-hours times a price that is an input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.results import Figure

__all__ = ["VOXCELEB2", "Corpus", "CostRow", "cost_rows", "cost_table"]

FPS = 25
HOP_FRAMES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Published size of a corpus of talking faces."""

    name: str
    hours: float
    clips: int
    identities: int
    source: str

    @property
    def seconds(self) -> float:
        """Of video, and of sound."""
        return self.hours * 3600

    @property
    def windows(self) -> float:
        """Training windows of one pass: one for each hop of 80 ms."""
        return self.seconds * FPS / HOP_FRAMES


VOXCELEB2 = Corpus(
    name="VoxCeleb2",
    hours=2442,
    clips=1_128_246,
    identities=6112,
    source="Chung, Nagrani, Zisserman, VoxCeleb2: Deep Speaker Recognition, Interspeech 2018; dev and test together",
)


@dataclass(frozen=True, slots=True)
class CostRow:
    """One stage: CPU seconds of one unit, how many units there are of it, and what it is called."""

    stage: str
    seconds: float
    unit: str
    count: float
    counted: str

    @property
    def core_hours(self) -> float:
        """Of all units."""
        return self.seconds * self.count / 3600


def cost_rows(figures: Mapping[str, Figure], corpus: Corpus) -> list[CostRow]:
    """The stages in their order, from the figures of `bench_cost.py`.

    Raises:
        KeyError: A figure is missing.
    """
    rows = [
        CostRow(
            "face analysis: `prepare`",
            figures["prepare.cpu_per_video_s"].value,
            "s of video",
            corpus.seconds,
            f"{corpus.hours:,.0f} h",
        ),
        CostRow(
            "speech features, both hop phases",
            figures["hearing.cpu_per_audio_s"].value,
            "s of sound",
            corpus.seconds,
            f"{corpus.hours:,.0f} h",
        ),
    ]
    for preset in ("lite", "paper"):
        step = figures[f"motion_{preset}.cpu_per_step"].value
        steps, batch = (figures[f"motion_{preset}.{name}"].value for name in ("steps", "batch"))
        rows.append(
            CostRow(
                f"motion `{preset}` as its preset has it",
                step,
                f"step of {batch:.0f} windows",
                steps,
                f"{steps:,.0f} steps",
            )
        )
        passed = f"{corpus.windows / 1e6:.0f} M windows"
        rows.append(
            CostRow(f"motion `{preset}`, one pass over every hop", step / batch, "window", corpus.windows, passed)
        )
    identity = figures["adapt.cpu_per_identity"].value
    counted = f"{corpus.identities:,} people"
    return [*rows, CostRow("an `adapt` avatar of everybody", identity, "person", corpus.identities, counted)]


def cost_table(figures: Mapping[str, Figure], corpus: Corpus) -> list[str]:
    """Markdown lines: each stage's measured cost, its amount, core-hours and money."""
    price = figures["price_per_core_hour"].value
    lines = [
        f"| stage | measured, CPU time | {corpus.name} | core-hours | at {price:g} a core-hour |",
        "|---|---|---|---|---|",
    ]
    for row in cost_rows(figures, corpus):
        measured = f"{_seconds(row.seconds)} a {row.unit}"
        hours = row.core_hours
        lines.append(f"| {row.stage} | {measured} | {row.counted} | {_round(hours)} | {_round(hours * price)} |")
    return [*lines, "", f"Size: {corpus.source}. The price is an input (`--price-per-core-hour`), nobody's offer."]


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def _round(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"
