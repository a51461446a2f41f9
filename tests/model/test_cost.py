"""A corpus's cost is measured seconds times its size, and the page says so."""

from __future__ import annotations

import pytest

from model.cost import VOXCELEB2, Corpus, cost_rows, cost_table
from model.results import Figure

SMALL = Corpus(name="Small", hours=2.0, clips=10, identities=3, source="made up")
VALUES = {
    "prepare.cpu_per_video_s": 0.5,
    "hearing.cpu_per_audio_s": 0.25,
    "motion_lite.cpu_per_step": 2.0,
    "motion_lite.steps": 1800.0,
    "motion_lite.batch": 64.0,
    "motion_paper.cpu_per_step": 4.0,
    "motion_paper.steps": 200_000.0,
    "motion_paper.batch": 32.0,
    "adapt.cpu_per_identity": 600.0,
    "price_per_core_hour": 0.5,
}


def figures(**changed: float) -> dict[str, Figure]:
    return {name: Figure(value=value, unit="1", better="lower") for name, value in (VALUES | changed).items()}


def test_core_hours_are_seconds_times_the_corpus() -> None:
    rows = {row.stage: row.core_hours for row in cost_rows(figures(), SMALL)}
    windows = 2 * 3600 * 25 / 2  # a hop is two frames
    assert list(rows.values()) == pytest.approx(
        [1.0, 0.5, 1.0, windows * 2 / 64 / 3600, 200_000 * 4 / 3600, windows * 4 / 32 / 3600, 0.5]
    )


def test_money_follows_the_price_and_nothing_else() -> None:
    cheap, dear = (cost_table(figures(price_per_core_hour=price), SMALL) for price in (0.5, 5.0))
    assert "| Small | core-hours | at 0.5 a core-hour |" in cheap[0]
    for one, other in zip(cheap[2:9], dear[2:9], strict=True):
        *same, money = [cell.strip() for cell in one.strip("|").split("|")]
        *also, tenfold = [cell.strip() for cell in other.strip("|").split("|")]
        assert same == also
        assert float(tenfold.replace(",", "")) == pytest.approx(10 * float(money.replace(",", "")), rel=0.02)
    assert cheap[2].startswith("| face analysis: `prepare` | 500 ms a s of video | 2 h | 1 | 0.5 |")


def test_a_missing_figure_is_no_zero() -> None:
    found = figures()
    del found["adapt.cpu_per_identity"]
    with pytest.raises(KeyError):
        cost_rows(found, SMALL)


def test_the_published_size_is_one_size() -> None:
    """Hours, clips and the 7.8 s that a clip is said to last on average agree."""
    assert VOXCELEB2.seconds / VOXCELEB2.clips == pytest.approx(7.8, abs=0.05)
