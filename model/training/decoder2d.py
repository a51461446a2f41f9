"""Trains the 2-D decoder (`model.radiance.decoder2d`) on the frames that the field was trained on.

The same frames of the capture's `train` (the last ones held out), the same input, the same emphasis on mouth and eyes,
the composite over random backgrounds compared by the Charbonnier error. Products are bfloat16 where the processor
multiplies it in hardware; the mean picture, and what is added to it, is float32. What the field has besides cannot be
given to a decoder without a camera: rays under foreign head rotations, depth, and frames of an orbiting camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.capture import CaptureFrames
from model.errors import ConfigError
from model.radiance.decoder2d import KIND, Decoder2d, Decoder2dConfig, multiply_adds, save_decoder
from model.training.capture_avatar import HOLD_OUT, load_captures
from model.training.run import Run, RunConfig

__all__ = ["Decoder2dTraining", "train_decoder"]

CHARBONNIER = 1e-3
LOG_EVERY = 25
Report = Callable[[int, float], None]
"""(steps done, PSNR in dB of the last steps, weighted as the loss)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder2dTraining:
    """How long, and how much mouth and eyes weigh beside 1 for the rest."""

    net: Decoder2dConfig = dataclasses.field(default_factory=Decoder2dConfig)
    run: RunConfig = dataclasses.field(
        default_factory=lambda: RunConfig(
            steps=1500, batch=8, learning_rate=3e-3, warmup_steps=50, weight_decay=0.0, ema_decay=0.995, save_every=50
        )
    )
    mouth: float = 6.0
    eyes: float = 3.0
    motion_noise: float = 0.02  # of the mouth codes, in standard deviations

    def __post_init__(self) -> None:
        if min(self.mouth, self.eyes, self.motion_noise) < 0:
            raise ConfigError(f"weights must not be negative, got {self.mouth}, {self.eyes}, {self.motion_noise}")


def train_decoder(
    config: Decoder2dTraining,
    capture: Path,
    ict: Path,
    out: Path,
    runs: Path,
    *,
    hold_out: int = HOLD_OUT,
    report: Report | None = None,
) -> Decoder2d:
    """Train to the end, or go on in `runs`; write the averaged weights.

    Raises:
        DataError: The folder is no capture, a picture is missing, or the run folder holds another model.
        ModelError: The loss is not finite.
    """
    frames = load_captures(capture, ict, config.net.size_px, runs, hold_out=hold_out).frames
    torch.manual_seed(config.run.seed)
    net, samples = Decoder2d(config.net), _Samples(frames, config)
    net.start_from(samples.mean())
    run = Run(runs, KIND, net, config.run)
    fit(run, net, samples, report)
    run.use_average()
    about = {
        "steps": str(run.step),
        "frames": str(len(frames)),
        "held_out": str(hold_out),
        "multiply_adds": str(multiply_adds(net)),
    }
    save_decoder(out, net, about)
    return net


class _Samples:
    """Batches of conditions, pictures (B, 4, S, S) and weights (B, 1, S, S)."""

    def __init__(self, frames: CaptureFrames, config: Decoder2dTraining) -> None:
        self.config = config
        self.motion = torch.from_numpy(frames.motion)
        self.rotvec = torch.from_numpy(frames.rotvec)
        heads = [np.rint(frames.head_only(i) * 255).astype(np.uint8) for i in range(len(frames))]
        self.pictures = torch.from_numpy(np.stack(heads)).permute(0, 3, 1, 2)
        self._boxes = [
            (config.mouth, np.rint(frames.mouth_box).astype(np.int64)),
            *((config.eyes, np.rint(frames.eye_boxes[:, side]).astype(np.int64)) for side in (0, 1)),
        ]

    def mean(self) -> Tensor:
        """(4, S, S) of all frames, 0..1."""
        return torch.from_numpy(self.pictures.numpy().mean(0, dtype=np.float32)) / 255

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = torch.randint(len(self.motion), (count,), generator=generator)
        motion = self.motion[rows]
        noise = self.config.motion_noise * torch.randn(motion.shape, generator=generator)
        mouth = torch.arange(motion.shape[1]) < 16  # where a standard deviation is the unit
        return motion + noise * mouth, self.rotvec[rows], self.pictures[rows].float() / 255, self._weights(rows.numpy())

    def _weights(self, rows: NDArray[np.int64]) -> Tensor:
        size = self.pictures.shape[-1]
        weights = torch.ones(len(rows), 1, size, size)
        for gain, boxes in self._boxes:
            for weight, (x0, y0, x1, y1) in zip(weights, boxes[rows], strict=True):
                weight[:, y0:y1, x0:x1] += gain
        return weights


def fit(run: Run, net: Decoder2d, samples: _Samples, report: Report | None = None) -> None:
    """Every step that is left."""
    errors: list[float] = []
    while not run.finished():
        generator = run.generator()
        motion, rotvec, wanted, weights = samples.draw(run.batch, generator)
        background = torch.rand(run.batch, 3, 1, 1, generator=generator)
        with run.autocast():
            made = net(motion, rotvec)
        difference = _over(made, background) - _over(wanted, background)
        loss = ((difference.square() + CHARBONNIER**2).sqrt() * weights).sum() / (3 * weights.sum())
        errors.append(float(((difference.detach().square() * weights).sum() / (3 * weights.sum())).item()))
        run.update(loss)
        if run.step % LOG_EVERY == 0 or run.finished():
            psnr = -10 * float(np.log10(np.mean(errors) + 1e-12))
            errors.clear()
            run.log(loss=float(loss.detach()), psnr=psnr)
            if report:
                report(run.step, psnr)


def _over(rgba: Tensor, background: Tensor) -> Tensor:
    return rgba[:, :3] + (1 - rgba[:, 3:]) * background
