"""The whole lips evaluation: the served model beside truth and every control, on GRID's held-out clips and strangers.

One MetricTable for each set of clips, and the few figures that README and docs name. Sound is heard as served; tracked
motion is that of `prepare`, GRID s1's by the calibration of its training clips, strangers' by their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures, load_clips
from model.data.forced_alignment import ForcedAligner
from model.errors import DataError
from model.evaluation.closures import clip_phonemes, mouth_events, phone_segments
from model.evaluation.lip_baselines import Control, fit_controls, spoken_clips
from model.evaluation.lip_rows import Method, TrueClip, lip_table
from model.evaluation.lips import (
    LipClip,
    following_figures,
    lip_clip,
    sampled_figures,
    sampled_motion,
    shuffled_motion,
    stranger_figures,
    stream_motion,
    ungated_motion,
)
from model.evaluation.speech_drive import GOAL_SHARE, movement, served_motion
from model.evaluation.tables import MetricTable
from model.motion.space import MotionSpace, load_motion_space
from model.results import Figure
from model.speech.log_mel import SAMPLE_RATE
from model.speech.phonemes import PHONEMES, SILENCE_INDEX
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

if TYPE_CHECKING:
    from model.evaluation.report import CurvePlot
    from model.results import Results

SERVED: Final = "served"
SAMPLE: Final = "served, one sample"
SHUFFLED: Final = "served, shuffled phonemes"
REGRESSOR: Final = "regressor, features"
SILENCE_S: Final = 20.0
COLUMN_S: Final = 0.01
SILENCE: Final = PHONEMES[SILENCE_INDEX]
SHOWN_CLIPS: Final = 2
CALIBRATED_MARGIN_R: Final = 0.02
"""What a sampler may fall behind the r that it can have at best (research on GRID: see docs/evaluation.md)."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class LipSet:
    """One set of clips with everybody's motion for it. `phones` is None where the words were not found."""

    name: str
    heard: Sequence[LipClip]
    truth: Sequence[TrueClip]
    phones: Sequence[NDArray[np.int64] | None]
    methods: Mapping[str, Method]
    table: MetricTable

    def made(self, method: str) -> Sequence[Array]:
        """A method's first draw, by clip."""
        return self.methods[method].draws[0]


@dataclass(frozen=True)
class LipEvaluation:
    """Everything measured in one run."""

    figures: dict[str, Figure]
    sets: tuple[LipSet, ...]
    space: MotionSpace


def evaluate_lips(grid: Path, *, steps: int = 2, strangers: Path | None = None, samples: int = 8) -> LipEvaluation:
    """Run it. `grid`: prepared `train` and `val` folders; `strangers`: prepared other speakers.

    Raises:
        DataError: A folder holds no clips, or forced alignment is not installed.
    """
    drive, space = SpeechToMotion.load(num_steps=steps, temperature=0.0), load_motion_space()
    aligner = ForcedAligner()
    train = spoken_clips(load_clips(grid / "train"), load_motion(grid / "train"), drive.stack.speech)
    bench = LipBench(drive, space, fit_controls(train), aligner, samples)
    val = bench.measure("grid_val", "GRID s1, held-out clips", load_clips(grid / "val"), load_motion(grid / "val"))
    sets, figures = [val], following_figures(val.heard, val.made(SERVED), val.methods[SHUFFLED].draws, space)
    figures |= with_goals(sampled_figures(val.heard, val.methods[SAMPLE].draws, space), val.table)
    figures |= table_figures(val.table)
    figures["lip_leak"] = leak_figure(drive, space, val.made(SERVED))
    if strangers is not None:
        others = load_clips(strangers)
        sets.append(bench.measure("strangers", "other GRID speakers", others, {c.key: c.motion for c in others}))
        figures |= stranger_figures(sets[-1].heard, sets[-1].made(SERVED), space)
    return LipEvaluation(figures, tuple(sets), space)


@dataclass(frozen=True)
class LipBench:
    """What every set of clips is measured with."""

    drive: SpeechToMotion
    space: MotionSpace
    controls: Mapping[str, Control]
    aligner: ForcedAligner
    samples: int

    def measure(self, name: str, title: str, clips: Sequence[ClipFeatures], motion: Mapping[str, Array]) -> LipSet:
        """Everybody's motion for a set of clips, and their table; `motion` (T, 32) tracked, by key."""
        heard = [lip_clip(c, motion[c.key], self.drive) for c in clips]
        methods = self._served(heard)
        spoken = spoken_clips(clips, motion, self.drive.stack.speech)
        methods |= {row: Method([[control.motion(c) for c in spoken]]) for row, control in self.controls.items()}
        phones = [said_phones(c, self.aligner) for c in clips]
        truth = [true_clip(c.key, motion[c.key], p) for c, p in zip(clips, phones, strict=True)]
        table = lip_table(title, truth, methods, self.space, reference=SERVED)
        return LipSet(name, heard, truth, phones, methods, table)

    def _served(self, heard: Sequence[LipClip]) -> dict[str, Method]:
        drawn = sampled_motion(heard, self.drive, self.samples)
        mean = [np.mean([draw[i] for draw in drawn], 0) for i in range(len(heard))]
        return {
            SERVED: Method([stream_motion(heard, self.drive)]),
            "served, gate open": Method([ungated_motion(heard, self.drive)]),
            SAMPLE: Method(drawn, samples=True),
            f"served, mean of {self.samples}": Method([mean]),
            SHUFFLED: Method(shuffled_motion(heard, self.drive)),
        }


def said_phones(clip: ClipFeatures, aligner: ForcedAligner) -> NDArray[np.int64] | None:
    """Phoneme indices of a clip; None, and counted below the table, where its words are not in the sound."""
    try:
        phones = clip_phonemes(clip, aligner)
    except DataError:
        return None
    return phones if (phones != SILENCE_INDEX).any() else None


def true_clip(key: str, motion: Array, phones: NDArray[np.int64] | None) -> TrueClip:
    """A clip's tracked motion (T, 32) with the events of its phones (4 T,)."""
    return TrueClip(key, motion, None if phones is None else mouth_events(phones, len(motion)))


def leak_figure(drive: SpeechToMotion, space: MotionSpace, speaking: Sequence[Array]) -> Figure:
    """Lip speed when driven by digital silence, as a share of that on held-out clips (T, 32).

    LipLeak (Yaman et al. 2024) is the sync confidence of frames generated from silence: the mouth must not move along.
    Without a picture and a critic in between, the motion itself is measured.
    """
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.float32)
    leak = movement(served_motion(silence, drive, space), space).lips
    level = float(np.mean([movement(m, space).lips for m in speaking]))
    return Figure(value=leak / level, unit="share of speech", goal=GOAL_SHARE, better="lower")


def lip_results(evaluation: LipEvaluation, *, command: str, data: str) -> Results:
    """The results file: named figures, every table's cells, and plots of lags, of loudness, and of two clips."""
    from model.evaluation.report import HistogramPlot, ReportTable, ScatterPlot, curve_plot, evaluation_results

    def plot(one: LipSet, index: int) -> CurvePlot:
        clip = one.truth[index]
        rows = {"tracked": clip.motion, "served": one.made(SERVED)[index], "energy": one.made("energy")[index]}
        return curve_plot(
            f"Lip opening, {clip.key}",
            {label: evaluation.space.lip_opening(motion) for label, motion in rows.items()},
            unit="IOD",
            marks=_marks(one.phones[index]),
        )

    sets = evaluation.sets
    return evaluation_results(
        "Lips",
        [ReportTable(name=one.name, table=one.table, tested=SERVED) for one in sets],
        command=command,
        data=data,
        figures=evaluation.figures,
        curves=[plot(one, i) for one in sets for i in range(min(SHOWN_CLIPS, len(one.truth)))],
        histograms=[
            HistogramPlot(table=one.name, metric="opening_lag", methods=(SERVED, REGRESSOR), low=-4, high=4, bins=16)
            for one in sets
        ],
        scatters=[ScatterPlot(table=one.name, metric="opening_r", across="energy", up=SERVED) for one in sets],
    )


def _marks(phones: NDArray[np.int64] | None) -> list[tuple[float, str]]:
    """Middle of each phone, seconds, and its name."""
    if phones is None:
        return []
    return [((a + b) / 2 * COLUMN_S, p) for p, a, b in phone_segments(phones) if p != SILENCE]


def with_goals(figures: dict[str, Figure], table: MetricTable) -> dict[str, Figure]:
    """Goals of a calibrated sampler: rho squared for one sample, rho for the mean of many, of the regressor's rho."""
    rho = _mean(table, REGRESSOR, "opening_r")
    out = {}
    for name, figure in figures.items():
        best = {"one_sample": rho**2, "mean_of": rho}
        goal = next((r for part, r in best.items() if name.startswith(f"lip_opening_r_{part}")), None)
        out[name] = figure if goal is None else figure.model_copy(update={"goal": goal - CALIBRATED_MARGIN_R})
    return out


def table_figures(table: MetricTable) -> dict[str, Figure]:
    """Cells that are named by themselves, where they have a value.

    The goal of the samples' CRPS is the regressor's absolute error.
    """
    cells = {"lip_opening_crps_samples": (SAMPLE, "opening_crps")}
    cells |= {name: (SERVED, name) for name in ("closure_f1", "rounding_f1", "spreading_f1")}
    figures = {}
    for name, (method, metric) in cells.items():
        found, about = table.estimate(method, metric), table.metric(metric)
        if found is not None and found.clips:
            goal = _mean(table, REGRESSOR, metric) if method == SAMPLE else None
            figures[name] = Figure(value=found.mean, unit=about.unit, goal=goal, better=about.better)
    return figures


def _mean(table: MetricTable, method: str, metric: str) -> float:
    return float(table.values[method][metric].mean())
