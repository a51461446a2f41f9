"""What is each part of the motion model worth? Variants of one small training, three seeds each, on held-out clips.

Variants are trained by `train ablation` (`model.training.ablation`); steps, temperature and views need no training of
their own and are set on `full`. All stream the same sound, heard with the variant's own hop and look-ahead, without the
voice gate: this is about the motion model. Scores are those of `model.evaluation.lip_rows`, means over clips; a cell is
the mean over the seeds that were trained and half their range. A sampler's row is of several draws at temperature 1;
steps, temperature and views, which are costly, are drawn for the first seed only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.features import load_clips
from model.data.forced_alignment import ForcedAligner
from model.diffusion.generator import MotionGenerator, MotionState
from model.diffusion.multi_view import MultiViewMotion
from model.diffusion.unet import TemporalUNet
from model.errors import DataError
from model.evaluation.lip_evaluation import said_phones, true_clip
from model.evaluation.lip_rows import LIP_METRICS, Method, TrueClip, lip_table
from model.evaluation.motion_weights import load_unet, other_sampler
from model.motion.space import MotionSpace, load_motion_space
from model.motion.view_bias import ViewBias
from model.motion_stack import ASSETS, SPEECH_FILE
from model.results import Figure, Results, new_results
from model.speech.speech_file import LoadedSpeech, load_speech
from model.speech_to_motion import SpeechToMotion
from model.training.ablation import FULL, VARIANTS, variant_path
from model.training.motion_check import stream
from model.training.motion_data import HearingConfig, held_out_items
from model.training.motion_targets import load_motion

__all__ = ["AblationEvaluation", "AblationFindings", "ablation_results", "evaluate_ablation"]

EULER_STEPS: Final = 10
STEPS: Final = (50, 4, 2, 1)
TEMPERATURES: Final = (0.0, 0.5)
VIEWS: Final = (3, 5)
MEAN_ROW: Final = ", mean"
DETERMINISTIC: Final = "deterministic"
NO_ATTENTION: Final = "no temporal attention"
SHOWN: Final = (
    "opening_r",
    "opening_crps",
    "spread_error",
    "velocity_ratio",
    "jerk_ratio",
    "closure_f1",
)
"""Columns of the table; the row's `mean_r` is that of the mean of its draws."""
MEAN_R: Final = "mean_r"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationEvaluation:
    """What was trained, and how much to draw."""

    grid: Path
    runs: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    draws: int = 8
    variants: tuple[str, ...] = tuple(VARIANTS)


@dataclass(frozen=True)
class AblationFindings:
    """`cells[row][metric]`: one number for each seed, in their order; NaN where it was not measured."""

    cells: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The table as text: means over seeds."""
        columns = (MEAN_R, *SHOWN)
        heads = " " * 26 + "".join(f"{name:>16s}" for name in columns)
        return [heads, *(f"{row:26s}" + "".join(_cell(found, c) for c in columns) for row, found in self.cells.items())]

    def ratio(self, row: str, other: str, metric: str) -> tuple[float, float] | None:
        """Mean over seeds of `row` over `other`, seed by seed, and half the range; None where no seed has both."""
        ours, theirs = (self.cells.get(name, {}).get(metric) for name in (row, other))
        if ours is None or theirs is None:
            return None
        ratios = _measured(np.array(ours) / np.array(theirs))
        return (float(ratios.mean()), float(np.ptp(ratios) / 2)) if len(ratios) else None


def evaluate_ablation(config: AblationEvaluation) -> AblationFindings:
    """Every variant of every seed.

    Raises:
        DataError: A variant was not trained for any seed, or the full model not for one; or there are no clips.
        CheckpointError: A variant is damaged, or was trained with other speech or VAE weights.
    """
    _check_trained(config)
    bench = _Bench.load(config)
    tables = [_seed_cells(bench, config, seed) for seed in config.seeds]
    metrics: dict[str, dict[str, None]] = {}
    for table in tables:
        for row, cells in table.items():
            metrics.setdefault(row, {}).update(dict.fromkeys(cells))
    return AblationFindings(
        {
            row: {name: tuple(table.get(row, {}).get(name, float("nan")) for table in tables) for name in names}
            for row, names in metrics.items()
        }
    )


def ablation_results(found: AblationFindings, *, command: str, data: str) -> Results:
    """The results file: every cell, and what the paper claims as ratios to the full model."""
    about = {m.name: (m.unit, m.better) for m in LIP_METRICS} | {MEAN_R: ("r", "higher")}
    figures = {}
    for row, cells in found.cells.items():
        for metric, values in cells.items():
            unit, better = about[metric]
            found_values = _measured(np.array(values))
            figures[f"{_slug(row)}.{metric}"] = Figure(
                value=float(np.mean(found_values)),
                unit=unit,
                better=better,
                spread=float(np.ptp(found_values) / 2),
                n=len(found_values),
            )
    claims = {
        "lip_velocity_without_attention": (NO_ATTENTION, "velocity_ratio", None),
        "crps_of_deterministic": (DETERMINISTIC, "opening_crps", 1.0),
        "spread_of_deterministic": (DETERMINISTIC, "opening_spread", None),
    }
    for name, (row, metric, goal) in claims.items():
        ratio = found.ratio(row, FULL, metric)
        if ratio is not None:
            figures[f"over_full.{name}"] = Figure(
                value=ratio[0],
                unit="1",
                goal=goal,
                better="higher",
                spread=ratio[1],
                n=len(_measured(np.array(found.cells[row][metric]))),
            )
    return new_results(figures, command=command, data=data)


@dataclass(frozen=True)
class _Bench:
    """Held-out clips, and what hears and decodes them."""

    config: AblationEvaluation
    drive: SpeechToMotion
    space: MotionSpace
    speech: LoadedSpeech
    truth: Sequence[TrueClip]

    @classmethod
    def load(cls, config: AblationEvaluation) -> _Bench:
        clips, motion, aligner = load_clips(config.grid / "val"), load_motion(config.grid / "val"), ForcedAligner()
        truth = [true_clip(c.key, motion[c.key], said_phones(c, aligner)) for c in clips]
        speech = load_speech(ASSETS / SPEECH_FILE)
        return cls(config, SpeechToMotion.load(), load_motion_space(), speech, truth)

    def heard(self, unet: TemporalUNet) -> tuple[Tensor, Tensor]:
        """Committed and edge features (N, T, 256) as this network hears the clips."""
        c = unet.config
        hearing = HearingConfig(hop_frames=c.hop_frames, lookahead_frames=c.lookahead_frames)
        items = held_out_items(self.config.grid, self.speech, self.config.runs / "heard", hearing)
        rows = items.start[:, None] + torch.arange(int(items.frames.min()))
        return items.committed[rows].float(), items.edge[rows].float()

    @torch.inference_mode()
    def draw(self, sampler: MotionGenerator, draws: int) -> list[list[Array]]:
        """Motion (T, 32), draws x clips; latents are decoded, motion is taken as it is."""
        features = self.heard(sampler.unet)
        made = []
        for seed in range(draws):
            found = stream(sampler, *features, seed=seed)
            motion = found if isinstance(sampler, _ManyViews) else self.drive.stack.vae.decode(found)
            made.append([one.numpy() for one in motion])
        return made


class _ManyViews(MotionGenerator):
    """A sampler whose hops are motion (B, hop, 32), aggregated over K views."""

    def __init__(self, base: MotionGenerator, drive: SpeechToMotion, space: MotionSpace, num_views: int) -> None:
        super().__init__(base.unet, base.rest_latent, num_steps=base.num_steps, temperature=base.temperature)
        self.views = MultiViewMotion(base, drive.stack.vae, ViewBias.load(), space, num_views=num_views)

    @torch.inference_mode()
    def step(self, features: Tensor, states: Sequence[MotionState], poses: Tensor | None = None) -> Tensor:
        """One hop of every session."""
        del poses  # the views choose their own
        return self.views.step(features, states)


def _seed_cells(bench: _Bench, config: AblationEvaluation, seed: int) -> dict[str, dict[str, float]]:
    """Every row's scores for one seed."""
    methods: dict[str, Method] = {}
    for variant in config.variants:
        path = variant_path(config.runs, variant, seed)
        if not path.is_file():
            continue
        options = variant == FULL and seed == config.seeds[0]
        for row, (sampler, draws) in _samplers(variant, load_unet(path), bench, options=options).items():
            made = bench.draw(sampler, draws)
            methods[row] = Method(made, samples=draws > 1)
            if draws > 1:
                methods[row + MEAN_ROW] = Method([[np.mean(clip, 0) for clip in zip(*made, strict=True)]])
    table = lip_table(f"ablation, seed {seed}", bench.truth, methods, bench.space)
    cells: dict[str, dict[str, float]] = {}
    for row in (r for r in methods if not r.endswith(MEAN_ROW)):
        found = {m.name: table.estimate(row, m.name) for m in table.metrics}
        cells[row] = {name: e.mean for name, e in found.items() if e is not None and e.clips}
        mean = table.estimate(row + MEAN_ROW if row + MEAN_ROW in methods else row, "opening_r")
        if mean is not None:
            cells[row][MEAN_R] = mean.mean
    return cells


def _check_trained(config: AblationEvaluation) -> None:
    def path(variant: str, seed: int) -> Path:
        return variant_path(config.runs, variant, seed)

    missing = [path(FULL, seed) for seed in config.seeds if not path(FULL, seed).is_file()]
    others = [variant for variant in config.variants if variant != FULL]
    missing += [path(v, config.seeds[0]) for v in others if not any(path(v, s).is_file() for s in config.seeds)]
    if missing:
        raise DataError(f"{missing[0]} is missing ({len(missing)} in all); run: nerf-lipsync train ablation")


def _samplers(
    variant: str, unet: TemporalUNet, bench: _Bench, *, options: bool
) -> dict[str, tuple[MotionGenerator, int]]:
    """Rows of a variant: its sampler and how often it is drawn; with the samplers' `options` or without."""
    draws = bench.config.draws
    if unet.config.process == "mean":
        return {variant: (other_sampler(unet, bench.drive, num_steps=1, temperature=0.0), 1)}
    usual = other_sampler(unet, bench.drive, num_steps=EULER_STEPS)
    rows = {variant: (usual, draws)}
    if not options:
        return rows
    rows |= {_plural(n, "step"): (other_sampler(unet, bench.drive, num_steps=n), draws) for n in STEPS}
    for heat in TEMPERATURES:
        sampler = other_sampler(unet, bench.drive, num_steps=EULER_STEPS, temperature=heat)
        rows[f"temperature {heat:g}"] = (sampler, draws if heat else 1)
    if unet.config.pose_size:
        rows |= {f"{k} views": (_ManyViews(usual, bench.drive, bench.space, k), draws) for k in VIEWS}
    return rows


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _cell(found: Mapping[str, tuple[float, ...]], metric: str) -> str:
    return f"{np.nanmean(found[metric]):16.3f}" if metric in found else " " * 15 + "-"


def _measured(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _slug(row: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in row)
