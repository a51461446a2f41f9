"""The whole distillation evaluation: student with 1, 2 and 4 steps beside its teacher, on GRID's held-out clips.

The student's own figures are of `model.evaluation.distillation`; a MetricTable scores teacher and students against the
tracked video as well, with paired intervals, so that a student that is unlike its teacher is told from a worse one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from model.data.features import load_clips
from model.data.forced_alignment import ForcedAligner
from model.diffusion.generator import MotionGenerator
from model.diffusion.unet import TemporalUNet
from model.errors import InputError
from model.evaluation.bootstrap import mean_estimate
from model.evaluation.distillation import (
    Draws,
    clip_ratios,
    closures_made,
    draw_clips,
    frechet_ratio,
    hop_times,
    mouth_codes,
    paired_rmse,
    root_mean_square,
)
from model.evaluation.lip_evaluation import CALIBRATED_MARGIN_R, said_phones, true_clip
from model.evaluation.lip_rows import Method, TrueClip, lip_table
from model.evaluation.lips import LipClip, lip_clip
from model.evaluation.motion_weights import hearing_for, load_unet, other_sampler
from model.evaluation.report import CurvePlot, ReportTable, curve_plot, evaluation_results
from model.evaluation.tables import MetricTable
from model.motion.space import MotionSpace, load_motion_space
from model.motion_stack import ASSETS, MOTION_FILE
from model.results import Figure, Results
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

TEACHER: Final = ASSETS / "motion_teacher.safetensors"
STUDENT: Final = ASSETS / MOTION_FILE
TABLE: Final = "grid_val"
TWIN: Final = "deterministic twin"
MEAN: Final = ", mean"
JUDGED_STEPS: Final = 2
"""The goals are for so many steps of the student."""
HOP_SHARE: Final = 0.12
"""Of a hop's length, for sampling and decoding on one core."""
TIMED_HOPS: Final = 30
SHOWN_CLIPS: Final = 2
FRAME_MS: Final = 40.0
GOALS: Final = {
    "frechet_ratio": (-np.inf, 1.2),
    "spread_ratio": (0.9, 1.1),
    "diversity_ratio": (0.9, 1.1),
    "jerk_ratio": (0.9, 1.1),
    "closures_points": (-5.0, 5.0),
    "speedup": (12.0, np.inf),
    "spread_error": (0.9, 1.1),
}
UNITS: Final = {"closures_points": "points", "paired_rmse": "sd", "streamed_rmse": "sd"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationEvaluation:
    """What to compare, and on how much."""

    grid: Path  # prepared `train` and `val`
    teacher: Path = TEACHER
    student: Path = STUDENT
    twin: Path | None = None  # a deterministic network, for what a sampler may be worth at best
    teacher_steps: int = 50
    student_steps: tuple[int, ...] = (1, 2, 4)
    clips: int = 42
    draws: int = 8


@dataclass(frozen=True)
class DistillationFindings:
    """Figures, the table beside the truth, and openings to draw."""

    figures: dict[str, Figure]
    table: MetricTable
    curves: tuple[CurvePlot, ...]

    def results(self, *, command: str, data: str) -> Results:
        """The results file."""
        tables = [ReportTable(name=TABLE, table=self.table)]
        return evaluation_results(
            "Student against teacher", tables, command=command, data=data, figures=self.figures, curves=self.curves
        )


@dataclass(frozen=True)
class _Bench:
    """Clips as both hear them."""

    drive: SpeechToMotion
    space: MotionSpace
    heard: Sequence[LipClip]
    truth: Sequence[TrueClip]

    def draw(self, sampler: MotionGenerator, draws: int) -> Draws:
        return draw_clips(self.heard, sampler, self.drive.stack.vae, self.space, draws=draws)


def evaluate_distillation(config: DistillationEvaluation) -> DistillationFindings:
    """Run it: about ten minutes on one core, nearly all of it the teacher's.

    Raises:
        InputError: Teacher and student take other hops, so that they cannot stream the same features.
        ModelError: Weights or clips are missing or do not fit.
    """
    teacher, student = load_unet(config.teacher), load_unet(config.student)
    drive = _shared_drive(teacher, student)
    bench = _bench(config, drive)
    samplers = {f"student_{n}": other_sampler(student, drive, num_steps=n) for n in config.student_steps}
    reference = other_sampler(teacher, drive, num_steps=config.teacher_steps)
    timed = _time_figures(bench, reference, samplers)
    wanted = bench.draw(reference, config.draws)
    made = {name: bench.draw(sampler, config.draws) for name, sampler in samplers.items()}
    figures: dict[str, Figure] = {}
    for name, draws in made.items():
        figures |= _student_figures(name, draws, wanted, bench)
    figures |= _paired_figures(bench, reference, samplers, teacher)
    figures |= timed
    rows = {_teacher_row(config): wanted} | {_row(name): draws for name, draws in made.items()}
    table = _table(bench, config, rows)
    figures |= truth_figures(table, _row(f"student_{JUDGED_STEPS}"))
    return DistillationFindings(figures, table, tuple(_curves(bench, rows)))


def truth_figures(table: MetricTable, row: str) -> dict[str, Figure]:
    """What a calibrated sampler owes to the truth: `row` of the table beside the row `TWIN`, where there is one.

    With the twin's correlation rho, its samples' mean can have rho, and one sample rho squared (research on GRID: see
    docs/evaluation.md); its CRPS must be below the twin's absolute error.
    """

    def mean(method: str, metric: str) -> float | None:
        return float(table.values[method][metric].mean()) if method in table.values else None

    rho, error = mean(TWIN, "opening_r"), mean(TWIN, "opening_crps")
    goals = {
        ("one_sample_r", row, "opening_r"): None if rho is None else rho**2 - CALIBRATED_MARGIN_R,
        ("mean_of_samples_r", row + MEAN, "opening_r"): None if rho is None else rho - CALIBRATED_MARGIN_R,
        ("crps", row, "opening_crps"): error,
    }
    figures = {}
    for (name, method, metric), goal in goals.items():
        about, value = table.metric(metric), mean(method, metric)
        if value is not None:
            figures[f"against_truth.{name}"] = Figure(value=value, unit=about.unit, goal=goal, better=about.better)
    calibration = mean(row, "spread_error")
    if calibration is not None:
        figures["against_truth.spread_error"] = _figure("spread_error", calibration, judged=True)
    return figures


def _table(bench: _Bench, config: DistillationEvaluation, rows: Mapping[str, Draws]) -> MetricTable:
    """Everybody against the tracked video: samples, their means, and the twin."""
    methods: dict[str, Method] = {}
    for row, draws in rows.items():
        methods[row] = Method([list(draw) for draw in draws.motion], samples=True)
        methods[row + MEAN] = Method([list(draws.motion.mean(0))])
    if config.twin is not None:
        twin = bench.draw(other_sampler(load_unet(config.twin), bench.drive, num_steps=1, temperature=0.0), 1)
        methods[TWIN] = Method([list(twin.motion[0])])
    return lip_table("GRID s1, held-out clips", bench.truth, methods, bench.space, reference=_teacher_row(config))


def _shared_drive(teacher: TemporalUNet, student: TemporalUNet) -> SpeechToMotion:
    hops = [(u.config.hop_frames, u.config.lookahead_frames) for u in (teacher, student)]
    if hops[0] != hops[1]:
        raise InputError(
            f"the teacher's (hop, look-ahead) is {hops[0]} frames, the student's {hops[1]}: need equal ones"
        )
    drive = SpeechToMotion.load()
    return hearing_for(other_sampler(student, drive, num_steps=JUDGED_STEPS), drive)


def _bench(config: DistillationEvaluation, drive: SpeechToMotion) -> _Bench:
    clips = load_clips(config.grid / "val")[: config.clips]
    motion, aligner = load_motion(config.grid / "val"), ForcedAligner()
    frames = min(len(motion[clip.key]) for clip in clips)
    heard = [lip_clip(clip, motion[clip.key][:frames], drive) for clip in clips]
    truth = []
    for clip, one in zip(clips, heard, strict=True):
        phones = said_phones(clip, aligner)
        truth.append(true_clip(clip.key, one.truth, None if phones is None else phones[: 4 * frames]))
    return _Bench(drive, load_motion_space(), heard, truth)


def _student_figures(name: str, made: Draws, wanted: Draws, bench: _Bench) -> dict[str, Figure]:
    """The measures of draws; those of each clip are means with their interval."""
    judged = name == f"student_{JUDGED_STEPS}"
    figures = {}
    for measure, values in clip_ratios(made, wanted, bench.space).items():
        found = mean_estimate(values)
        figure = _figure(measure, found.mean, judged=judged, spread=found.half_width)
        figures[measure] = figure.model_copy(update={"n": found.clips, "interval": (found.low, found.high)})
    for measure, part in (("frechet_ratio", lambda d: d.latents), ("frechet_ratio_of_codes", mouth_codes)):
        ratio, spread = frechet_ratio(part(made), part(wanted))
        figures[measure] = _figure(measure, ratio, judged=judged, spread=spread)
    closed = [closures_made(draws, bench.truth) for draws in (made, wanted)]
    if not np.isnan(closed[0]):
        figures["closures_points"] = _figure("closures_points", 100 * (closed[0] - closed[1]), judged=judged)
    apart = root_mean_square(made.latents - wanted.latents)
    figures["streamed_rmse"] = _figure("streamed_rmse", apart, judged=judged)
    return {f"{name}.{measure}": figure for measure, figure in figures.items()}


def _paired_figures(
    bench: _Bench, reference: MotionGenerator, samplers: Mapping[str, MotionGenerator], teacher: TemporalUNet
) -> dict[str, Figure]:
    """Errors of one hop; beside them the teacher's own, with half as many steps and, for a flow, twice as many."""
    steps = reference.num_steps
    counts = [max(1, steps // 2)] + ([] if teacher.config.process == "ddpm" else [2 * steps])
    finer = {f"teacher_{n}": other_sampler(teacher, bench.drive, num_steps=n) for n in counts}
    found = paired_rmse(bench.heard, reference, {**samplers, **finer})
    return {f"{name}.paired_rmse": Figure(value=value, unit="sd", better="lower") for name, value in found.items()}


def _time_figures(
    bench: _Bench, reference: MotionGenerator, samplers: Mapping[str, MotionGenerator]
) -> dict[str, Figure]:
    """Medians of a hop, sampling and decoding, and how much faster than the teacher."""
    rows = bench.heard[0].features
    features = rows[torch.arange(TIMED_HOPS + 2) % len(rows)]
    times = hop_times({"teacher": reference, **samplers}, features, bench.drive.stack.vae)
    hop_ms = FRAME_MS * reference.config.hop_frames
    teacher_ms = float(np.median(times["teacher"]))
    figures = {}
    for name, values in times.items():
        median = float(np.median(values))
        judged = name == f"student_{JUDGED_STEPS}"
        low, high = np.quantile(values, [0.05, 0.95])
        figures[f"{name}.hop_ms"] = Figure(
            value=median,
            unit="ms",
            goal=HOP_SHARE * hop_ms if judged else None,
            better="lower",
            spread=float(high - low) / 2,
        )
        if name != "teacher":
            figures[f"{name}.speedup"] = _figure("speedup", teacher_ms / median, judged=judged)
    return figures


def _figure(measure: str, value: float, *, judged: bool, spread: float | None = None) -> Figure:
    """A figure; its goal, if it has one, is the end of the range that is nearer to it."""
    low, high = GOALS.get(measure, (-np.inf, np.inf))
    upper = not np.isfinite(low) or (np.isfinite(high) and value > (low + high) / 2)
    higher_is_better = not upper or measure == "streamed_opening_ccc"
    return Figure(
        value=value,
        unit=UNITS.get(measure, "1"),
        goal=(high if upper else low) if judged and measure in GOALS else None,
        better="higher" if higher_is_better else "lower",
        spread=spread,
    )


def _curves(bench: _Bench, rows: Mapping[str, Draws]) -> list[CurvePlot]:
    """The lip opening of the first draw, all from the same noise, beside the tracked one."""
    plots = []
    for index, clip in enumerate(bench.truth[:SHOWN_CLIPS]):
        signals = {"tracked": bench.space.lip_opening(clip.motion)}
        signals |= {row: draws.opening[0, index] for row, draws in rows.items()}
        plots.append(curve_plot(f"Lip opening from the same noise, {clip.key}", signals, unit="IOD"))
    return plots


def _teacher_row(config: DistillationEvaluation) -> str:
    return f"teacher, {config.teacher_steps} steps"


def _row(name: str) -> str:
    steps = name.removeprefix("student_")
    return f"student, {steps} step" + ("" if steps == "1" else "s")
