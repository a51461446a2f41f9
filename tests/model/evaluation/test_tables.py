"""Bootstrap intervals and the table of methods against metrics."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.bootstrap import mean_estimate, paired_difference
from model.evaluation.tables import Metric, MetricTable, join_tables

PSNR = Metric(name="psnr", title="PSNR", unit="dB", better="higher", definition="d")
LMD = Metric(name="lmd", title="LMD", unit="px", better="lower", definition="d")
SPREAD = Metric(name="spread", title="spread", unit="1", better="higher", definition="d", ideal=1.0)
FID = Metric(name="fid", title="FID", unit="1", better="lower", definition="d")


def _table() -> MetricTable:
    return MetricTable(
        title="t",
        clips=("a", "b", "c"),
        metrics=(PSNR, LMD, SPREAD, FID),
        values={
            "truth": {"psnr": np.full(3, 100.0), "spread": np.ones(3)},
            "ours": {"psnr": np.array([30.0, 31, 32]), "spread": np.array([0.8, 0.9, 0.7])},
            "theirs": {"psnr": np.array([29.0, 30.5, 30]), "spread": np.array([1.5, 1.4, 1.6]), "lmd": np.zeros(3)},
        },
        pooled={"ours": {"fid": 4.0}, "theirs": {"fid": 3.0}},
        reference="theirs",
        truth="truth",
    )


def test_an_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for index in range(150):
        found = mean_estimate(rng.exponential(1.0, 30), seed=index)
        inside += found.low <= 1.0 <= found.high
    assert 0.86 <= inside / 150 <= 0.99


def test_an_interval_is_that_of_the_textbook_for_many_normal_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = mean_estimate(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.half_width == pytest.approx(1.96 * values.std() / 20, rel=0.06)


def test_two_runs_give_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=20)
    assert mean_estimate(values, seed=3) == mean_estimate(values, seed=3)
    assert mean_estimate(values, seed=3) != mean_estimate(values, seed=4)


def test_pairs_tell_apart_what_means_do_not() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(30, 5, 40)
    ours, other = hardness + 0.3 + rng.normal(0, 0.3, 40), hardness + rng.normal(0, 0.3, 40)
    difference = paired_difference(ours, other)
    assert difference.clear and difference.low < 0.3 < difference.high
    alone = mean_estimate(ours), mean_estimate(other)
    assert alone[0].low < alone[1].mean < alone[0].high
    assert difference.half_width < 0.2 * alone[0].half_width


def test_clips_without_a_value_are_left_out_in_pairs() -> None:
    ours, other = np.array([1.0, np.nan, 3.0, 5.0]), np.array([0.0, 1.0, np.nan, 3.0])
    found = paired_difference(ours, other)
    assert (found.mean, found.clips) == (1.5, 2)
    assert mean_estimate(np.full(2, np.nan)).clips == 0


def test_no_interval_of_one_clip_and_none_needed_for_equal_ones() -> None:
    one = mean_estimate(np.array([2.0]))
    assert (one.mean, one.clips) == (2.0, 1) and np.isnan(one.low) and not one.clear
    same = mean_estimate(np.full(5, 2.0))
    assert (same.low, same.mean, same.high) == (2.0, 2.0, 2.0)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 2\)"):
        mean_estimate(np.zeros((2, 2)))
    with pytest.raises(InputError, match="infinity in 1 of 2"):
        mean_estimate(np.array([1, np.inf]))
    with pytest.raises(InputError, match=r"\(3,\) and \(2,\)"):
        paired_difference(np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="between 0 and 1, got 95"):
        mean_estimate(np.zeros(3), confidence=95)


def test_a_table_gives_means_differences_and_the_best_row() -> None:
    table = _table()
    assert table.methods == ("truth", "ours", "theirs")
    ours = table.estimate("ours", "psnr")
    assert ours is not None and ours.mean == 31 and ours.clips == 3
    difference = table.difference("ours", "theirs", "psnr")
    assert difference is not None and difference.mean == pytest.approx(3.5 / 3)
    assert table.estimate("ours", "lmd") is None and table.difference("ours", "theirs", "lmd") is None
    assert table.best("psnr") == "ours"  # the truth does not compete
    assert table.best("spread") == "ours"  # 0.8 is nearer to 1 than 1.5
    assert table.best("fid") == "theirs"
    pooled = table.estimate("ours", "fid")
    assert pooled is not None and pooled.mean == 4 and np.isnan(pooled.low)


def test_a_table_refuses_what_does_not_fit() -> None:
    def made(**changes: object) -> MetricTable:
        given = {"title": "t", "clips": ("a", "b"), "metrics": (PSNR,), "values": {"m": {"psnr": np.zeros(2)}}}
        return MetricTable(**{**given, **changes})  # type: ignore[arg-type]

    assert made().methods == ("m",)
    for match, changes in {
        r"needs \(2,\) float64, got \(3,\)": {"values": {"m": {"psnr": np.zeros(3)}}},
        "float32": {"values": {"m": {"psnr": np.zeros(2, np.float32)}}},
        "'lmd' is not described": {"values": {"m": {"lmd": np.zeros(2)}}},
        "fid not described": {"pooled": {"m": {"fid": 1.0}}},
        "no row 'x'": {"reference": "x"},
        "names a metric twice": {"metrics": (PSNR, PSNR)},
    }.items():
        with pytest.raises(InputError, match=match):
            made(**changes)
    with pytest.raises(InputError, match="no metric 'ssim'"):
        made().best("ssim")


def test_tables_over_the_same_clips_join() -> None:
    table = _table()
    more = MetricTable(title="u", clips=table.clips, metrics=(LMD,), values={"ours": {"lmd": np.ones(3)}}, notes=("n",))
    joined = join_tables("both", table, more)
    assert joined.difference("ours", "theirs", "lmd").mean == 1  # type: ignore[union-attr]
    assert joined.reference == "theirs" and joined.notes == ("n",) and len(joined.metrics) == 4
    with pytest.raises(InputError, match="has lmd twice"):
        join_tables("both", joined, more)
    with pytest.raises(InputError, match="over other clips"):
        join_tables("both", table, MetricTable(title="u", clips=("a",), metrics=(), values={}))
    other = Metric(name="lmd", title="LMD", unit="mm", better="lower", definition="d")
    with pytest.raises(InputError, match="'lmd' is described twice"):
        join_tables("both", table, MetricTable(title="u", clips=table.clips, metrics=(other,), values={}))
