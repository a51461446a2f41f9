"""What the lips evaluation writes down: figures with their goals, every row, plots that name phones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.evaluation.closures import mouth_events
from model.evaluation.lip_evaluation import (
    REGRESSOR,
    SAMPLE,
    SERVED,
    LipEvaluation,
    LipSet,
    lip_results,
    table_figures,
    with_goals,
)
from model.evaluation.lip_rows import Method, TrueClip, lip_table
from model.evaluation.lips import LipClip
from model.evaluation.report.record import read_details
from model.motion.space import MotionSpace, load_motion_space
from model.results import Figure, read_results, write_results
from model.speech.phonemes import INDEX

FRAMES = 40


def motion(seed: int) -> NDArray[np.float32]:
    out = np.zeros((FRAMES, 32), np.float32)
    noise = np.random.default_rng(seed).standard_normal((FRAMES + 20, 16))
    out[:, :16] = gaussian_filter1d(noise, 2.0, axis=0)[10:-10]
    return out


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture(scope="module")
def measured(space: MotionSpace) -> LipSet:
    phones = np.full(4 * FRAMES, INDEX["sil"], np.int64)
    for start, name in ((60, "b"), (76, "t"), (92, "ae"), (108, "uw"), (124, "t")):
        phones[start : start + 16] = INDEX[name]
    truth = [TrueClip(f"clip{i}", motion(i), mouth_events(phones, FRAMES)) for i in range(3)]
    near = [[t.motion + 0.5 * motion(10 + i + 10 * draw) for i, t in enumerate(truth)] for draw in range(2)]
    methods = {
        SERVED: Method(near[:1]),
        SAMPLE: Method(near, samples=True),
        REGRESSOR: Method(near[1:]),
        "energy": Method([[motion(90 + i) for i in range(3)]]),
    }
    heard = [LipClip(torch.zeros(1), (0.0,), t.motion, np.zeros(FRAMES, np.float32)) for t in truth]
    table = lip_table("held out", truth, methods, space, reference=SERVED)
    return LipSet("grid_val", heard, truth, [phones, phones, None], methods, table)


def test_goals_of_samples_come_from_the_regressor_of_the_same_run(measured: LipSet) -> None:
    rho = float(measured.table.values[REGRESSOR]["opening_r"].mean())
    plain = {
        name: Figure(value=0.5, unit="r", better="higher")
        for name in ("lip_opening_r_one_sample", "lip_opening_r_mean_of_8", "lip_opening_r")
    }
    goals = {name: figure.goal for name, figure in with_goals(plain, measured.table).items()}
    assert goals["lip_opening_r_one_sample"] == pytest.approx(rho**2 - 0.02)
    assert goals["lip_opening_r_mean_of_8"] == pytest.approx(rho - 0.02)
    assert goals["lip_opening_r"] is None
    error = measured.table.values[REGRESSOR]["opening_crps"].mean()
    assert table_figures(measured.table)["lip_opening_crps_samples"].goal == pytest.approx(error)


def test_the_results_file_holds_figures_rows_and_plots(measured: LipSet, space: MotionSpace, tmp_path: Path) -> None:
    named = {"lip_opening_r": Figure(value=0.9, unit="r", better="higher")}
    results = lip_results(LipEvaluation(named, (measured,), space), command="evaluate lips", data="made up")
    write_results(tmp_path / "lips.json", results)
    read = read_results(tmp_path / "lips.json")
    assert read.figures["lip_opening_r"].value == 0.9
    assert read.figures["grid_val.truth.opening_r"].value == pytest.approx(1.0)
    assert {name.split(".")[1] for name in read.figures if "." in name} >= {"truth", "served", "energy"}
    details = read_details(read, tmp_path / "lips.json")
    assert details is not None
    first = details.curves[0]
    assert [m.label for m in first.marks] == ["b", "t", "ae", "uw", "t"]
    assert first.marks[0].at == pytest.approx(0.68)
    assert [c.label for c in first.curves] == ["tracked", "served", "energy"]


def test_without_words_there_is_no_figure_of_closures(space: MotionSpace) -> None:
    truth = [TrueClip("mute", motion(0), None)]
    rows = {name: Method([[motion(1)]]) for name in (SERVED, REGRESSOR)}
    table = lip_table("mute clips", truth, rows | {SAMPLE: Method([[motion(1)]] * 2, samples=True)}, space)
    assert set(table_figures(table)) == {"lip_opening_crps_samples"}
