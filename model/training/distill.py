"""Distil a rectified-flow teacher into a flow map that takes 1, 2 or 4 steps.

`nerf-lipsync train distill --grid DIR --corpus DIR --out DIR`. The teacher's deterministic trajectories are followed
for a pool of windows and kept at the student's grid of times; the student regresses the jumps between
them (mid-training of consistency models, CMT 2026; flow map matching, Boffi et al. 2024). For a jump from t to s of a
trajectory x the network's target is

    G = (x_s - (s / t) x_t) / (1 - s / t)

A temperature k shrinks the trajectory towards the teacher's conditional mean m, which is the mean of what it makes of
the noise and of its opposite at t = 1:

    x_t(k) = k x_t + (1 - k) (1 - t) m

so that k = 0 serves the mean, k = 1 the teacher's distribution, in any number of steps. In the later pools the past is
often the student's own.

They are followed as the teacher is sampled himself, by `euler_steps` of Euler's method. Heun's method in eight steps
takes a third of the time; but its last step, from t = 1 / heun_steps to 0, is the network's own guess, which is a mean
and lacks what is finest in the motion: a student of such trajectories had 1.9 times the Frechet distance to the teacher
that the teacher has to himself, with Euler's 1.1 times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import ConfigError
from model.training.distributed import ALONE, Distributed
from model.training.motion import KIND, MotionSources, sampled, save_motion, validate
from model.training.motion_windows import AugmentConfig, Batch, WindowSource, own_history, perturb
from model.training.run import Run, RunConfig

GRID: Final = 4
"""Intervals of the student's grid of times."""
JUMPS: Final[Mapping[tuple[int, int], float]] = {
    (4, 0): 0.16,
    (4, 2): 0.3,
    (2, 0): 0.3,
    (4, 3): 0.06,
    (3, 2): 0.06,
    (2, 1): 0.06,
    (1, 0): 0.06,
}
"""Every jump of a sampler of 1, 2 (which is served) or 4 steps, in quarters of the way, and its share."""
LEAST_STEPS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillConfig:
    """Preset `lite`.

    euler_steps: Of the teacher's own sampler, a multiple of 4; 0: Heun's method.
    heun_steps: Of Heun's method, a multiple of 4.
    pool_windows, pool_steps: Trajectories solved at a time, and steps taken on them.
    mean_share, between_share: Windows at temperature 0, and at a random one up to `highest_temperature`; the others are
        at temperature 1.
    committed_weight: Of the error where the past is given, against the window's mean weight.
    """

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=7200, batch=64, learning_rate=3e-4, warmup_steps=100)
    )
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(feature_dropout=0.03, prosody_dropout=0.2, prefix_dropout=0.05)
    )
    euler_steps: int = 48
    heun_steps: int = 8
    pool_windows: int = 3072
    pool_steps: int = 300
    mean_share: float = 0.15
    between_share: float = 0.15
    highest_temperature: float = 1.3
    committed_weight: float = 0.25

    def __post_init__(self) -> None:
        if self.heun_steps % GRID or self.heun_steps < GRID:
            raise ConfigError(f"heun_steps must be a multiple of {GRID}, got {self.heun_steps}")
        if self.euler_steps % GRID or self.euler_steps < 0:
            raise ConfigError(f"euler_steps must be 0 or a multiple of {GRID}, got {self.euler_steps}")


@dataclass
class Pool:
    """Windows with their trajectories at times 0, 1/4, 1/2, 3/4 and 1."""

    windows: Batch
    path: Tensor  # (N, GRID + 1, T, 16), noise last
    mean: Tensor  # (N, T, 16)

    def jump(self, rows: Tensor, start: Tensor, end: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """Where the jumps start (B, T, 16) and what the network must say there; times in quarters (B,)."""
        heat, mean = temperature[:, None, None], self.mean[rows]
        t, s = ((x.to(mean) / GRID)[:, None, None] for x in (start, end))
        here = heat * self.path[rows, start] + (1 - heat) * (1 - t) * mean
        there = heat * self.path[rows, end] + (1 - heat) * (1 - s) * mean
        kept = s / t
        return here, (there - kept * here) / (1 - kept)


def train_distill(
    sources: MotionSources,
    teacher_path: Path,
    out: Path,
    config: DistillConfig,
    run_folder: Path,
    *,
    start_from: Path | None = None,
    distributed: Distributed = ALONE,
) -> str:
    """Distil (or go on) and write the student; returns its hash. `start_from`: an earlier student, to begin with.

    Raises:
        ConfigError: The teacher is no rectified flow, or the earlier student is of another shape.
    """
    teacher, student = teacher_and_student(teacher_path, start_from)
    torch.manual_seed(config.run.seed)
    run = Run(run_folder, "distill", student, config.run, distributed=distributed)
    teacher.to(run.device)
    source = WindowSource(sources.train, sources.vae, student.config, config.augment)
    weight = _weight(student.config, config).to(run.device)
    pool: Pool | None = None
    while not run.finished():
        if pool is None or run.step % config.pool_steps == 0:
            pool = fill_pool(teacher, student, source, run, config)
        torch.manual_seed(config.run.seed * 7919 + run.step)
        error = _step(student, pool, run, config, weight)
        run.update(error)
        if run.step % 50 == 0:
            run.log(loss=error.item(), **(validate(student, sources) if run.step % 500 == 0 else {}))
    run.use_average()
    run.log(final=1.0, **validate(student, sources))
    teacher_hash = load_checkpoint(teacher_path, kind=KIND, config_cls=UNetConfig).content_hash
    with distributed.main_first():
        return save_motion(out, student, sources.metadata(run) | {"teacher": teacher_hash})


def teacher_and_student(teacher_path: Path, start_from: Path | None = None) -> tuple[TemporalUNet, TemporalUNet]:
    """The teacher, and a student that begins as its copy, or as an earlier student.

    Raises:
        ConfigError: The teacher is no rectified flow, or the earlier student is of another shape.
    """
    saved = load_checkpoint(teacher_path, kind=KIND, config_cls=UNetConfig)
    if saved.config.process != "flow":
        raise ConfigError(f"{teacher_path} was trained as {saved.config.process!r}: train the teacher as 'flow'")
    tensors = {k: v.float() for k, v in saved.tensors.items()}
    teacher = TemporalUNet(saved.config)
    teacher.load_state_dict(tensors)
    student = TemporalUNet(replace(saved.config, process="flow-map", dropout=0.0))
    if start_from is None:
        student.load_state_dict(tensors, strict=False)  # but for the target time's layer, which begins at zero
    else:
        earlier = load_checkpoint(start_from, kind=KIND, config_cls=UNetConfig)
        if earlier.config != student.config:
            raise ConfigError(f"{start_from} is no student of {teacher_path}: its configuration is {earlier.config}")
        student.load_state_dict({k: v.float() for k, v in earlier.tensors.items()})
    return teacher.eval().requires_grad_(False), student


@torch.no_grad()
def fill_pool(
    teacher: TemporalUNet, student: TemporalUNet, source: WindowSource, run: Run, config: DistillConfig
) -> Pool:
    """Draw windows and solve the teacher's trajectories for them.

    A resumed run draws the same; only a past of the student's own is then made by the student as it has become.
    """
    begun = run.step - run.step % config.pool_steps
    generator = torch.Generator().manual_seed(config.run.seed * 104_729 + begun + run.distributed.rank * 1_000_003)
    own = begun >= config.augment.own_history_from * config.run.steps
    made, left = [], config.pool_windows
    while left > 0:
        count = min(256, left)
        windows, earlier = source.past_of(count, generator)
        if own:
            windows = own_history(
                lambda w: sampled(student, w.to(run.device), generator, steps=LEAST_STEPS).cpu(),
                windows,
                earlier,
                config.augment.own_history,
                generator,
            )
        windows = perturb(windows, config.augment, generator).to(run.device)
        steps = config.euler_steps or config.heun_steps
        made.append(Pool(windows, *trajectory(teacher, windows, generator, steps, run, euler=config.euler_steps > 0)))
        left -= count
    names = made[0].windows.__dataclass_fields__
    return Pool(
        Batch(**{name: torch.cat([getattr(p.windows, name) for p in made]) for name in names}),
        torch.cat([p.path for p in made]),
        torch.cat([p.mean for p in made]),
    )


@torch.no_grad()
def trajectory(
    teacher: TemporalUNet,
    windows: Batch,
    generator: torch.Generator,
    steps: int,
    run: Run,
    *,
    euler: bool = False,
) -> tuple[Tensor, Tensor]:
    """The teacher's path (B, GRID + 1, T, 16) from fresh noise, by Heun's method (or Euler's); its mean (B, T, 16)."""

    def clean(x: Tensor, time: float) -> Tensor:
        with run.autocast():
            return windows.denoised(teacher, x, x.new_full((len(x),), time)).float()

    noise = torch.randn(windows.clean.shape, generator=generator).to(run.device)
    x, kept = noise, [noise]
    mean = 0.5 * (clean(noise, 1.0) + clean(-noise, 1.0))
    times = torch.linspace(1, 0, steps + 1).tolist()
    for index, (now, after) in enumerate(pairwise(times)):
        slope = (x - clean(x, now)) / now
        there = x + (after - now) * slope
        if after > 0 and not euler:
            there = x + (after - now) * 0.5 * (slope + (there - clean(there, after)) / after)
        x = there
        if (index + 1) % (steps // GRID) == 0:
            kept.append(x)
    return torch.stack(kept[::-1], 1), mean


def _step(student: TemporalUNet, pool: Pool, run: Run, config: DistillConfig, weight: Tensor) -> Tensor:
    """The weighted squared error of a batch of jumps."""
    generator, count = run.generator(), run.batch
    rows = torch.randint(len(pool.path), (count,), generator=generator)
    jumps = torch.tensor(list(JUMPS))
    which = torch.multinomial(torch.tensor(list(JUMPS.values())), count, replacement=True, generator=generator)
    start, end = jumps[which].unbind(1)
    kind, between = torch.rand(2, count, generator=generator)
    heat = torch.where(kind < config.mean_share + config.between_share, between * config.highest_temperature, 1.0)
    heat = torch.where(kind < config.mean_share, 0.0, heat)
    rows, start, end, heat = (x.to(run.device) for x in (rows, start, end, heat))
    here, wanted = pool.jump(rows, start, end, heat)
    with run.autocast():
        said = pool.windows.rows(rows).denoised(student, here, start / GRID, target_time=end / GRID, temperature=heat)
    return ((said.float() - wanted).square().mean(-1) @ weight).mean()


def _weight(model: UNetConfig, config: DistillConfig) -> Tensor:
    """(T,) of each frame's error, summing to 1."""
    weight = torch.ones(model.window_frames)
    weight[: model.committed_frames] = config.committed_weight
    weight[model.committed_frames : model.committed_frames + model.hop_frames] = 3.0
    return weight / weight.sum()
