"""The ablation's table: means over seeds, ratios to the full model, rows of a variant, and what is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import DataError
from model.evaluation.ablation import AblationEvaluation, AblationFindings, ablation_results, evaluate_ablation
from model.results import read_results, write_results

FULL = {"opening_r": (0.7, 0.8, 0.9), "opening_crps": (0.02, 0.02, 0.02), "velocity_ratio": (1.0, 1.0, 1.25)}
FULL |= {"opening_spread": (1.0, 1.0, 1.0), "mean_r": (0.8, 0.85, 0.9)}
STILLER = {"opening_r": (0.8, 0.9, 0.9), "opening_crps": (0.03, 0.025, 0.035), "opening_spread": (0.8, 0.8, 0.8)}
JUMPY = FULL | {"velocity_ratio": (1.1, 1.3, 1.5)}


@pytest.fixture
def found() -> AblationFindings:
    return AblationFindings({"full": FULL, "deterministic": STILLER, "no temporal attention": JUMPY})


def test_ratios_are_taken_seed_by_seed(found: AblationFindings) -> None:
    mean, spread = found.ratio("no temporal attention", "full", "velocity_ratio") or (0.0, 0.0)
    assert mean == pytest.approx((1.1 + 1.3 + 1.2) / 3) and spread == pytest.approx(0.1)
    assert found.ratio("deterministic", "full", "velocity_ratio") is None
    assert found.ratio("no mel", "full", "opening_r") is None


def test_the_results_hold_means_ranges_and_the_papers_claims(found: AblationFindings, tmp_path: Path) -> None:
    write_results(tmp_path / "ablation.json", ablation_results(found, command="c", data="d"))
    figures = read_results(tmp_path / "ablation.json").figures
    cell = figures["full.opening_r"]
    assert (cell.value, cell.spread, cell.n) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert figures["no_temporal_attention.velocity_ratio"].value == pytest.approx(1.3)
    assert figures["over_full.lip_velocity_without_attention"].value == pytest.approx(1.2)
    crps = figures["over_full.crps_of_deterministic"]
    assert crps.value == pytest.approx(1.5) and not crps.missed
    assert figures["over_full.spread_of_deterministic"].value == pytest.approx(0.8)


def test_the_printed_table_has_a_row_for_each_variant(found: AblationFindings) -> None:
    lines = found.lines()
    assert [line[:21].strip() for line in lines[1:]] == ["full", "deterministic", "no temporal attention"]
    assert "0.850" in lines[1] and lines[2].split()[1] == "-"


def test_seeds_that_were_not_measured_do_not_count() -> None:
    nan = float("nan")
    found = AblationFindings(
        {"full": {"opening_crps": (1.0, 2.0)}, "deterministic": {"opening_crps": (nan, 3.0), "opening_r": (nan, 0.9)}}
    )
    assert found.ratio("deterministic", "full", "opening_crps") == (1.5, 0.0)
    cell = ablation_results(found, command="c", data="d").figures["deterministic.opening_r"]
    assert (cell.value, cell.spread, cell.n) == (pytest.approx(0.9), 0.0, 1)


def test_what_was_not_trained_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"full-0/motion\.safetensors is missing \(2 in all\).*train ablation"):
        evaluate_ablation(AblationEvaluation(grid=tmp_path, runs=tmp_path, seeds=(0, 1), variants=("full",)))
