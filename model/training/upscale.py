"""Trains the network that makes 512 px of 256 (`model.radiance.upscale`) on renderings of one avatar.

Input is the field as it is served at 256 px; the target is the same field at 512 px marched in finer steps. Motion is
drawn: mouth codes normal (their unit is a standard deviation), brows, lids and gaze over their ranges.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.avatar import Avatar, load_avatar
from model.checkpoint import save_checkpoint
from model.errors import ConfigError
from model.motion.space import GAZE_CODES, LID_CODES, MOTION_SIZE, MOUTH_CODES, load_motion_space
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.radiance.upscale import FACTOR, KIND, UpscaleConfig, UpscaleNet

SMALL_PX = 256
FINE_STEPS = 4
LARGEST_TURN_DEG = (20.0, 8.0, 5.0)  # yaw, pitch, roll
COVERED = 0.02  # least share of a patch that the head covers
BLINKING = 0.25  # share of the frames with lids anywhere

Report = Callable[[int, float], None]
"""(steps done, mean squared error of the last steps)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleTraining:
    """How long and on what."""

    net: UpscaleConfig = dataclasses.field(default_factory=UpscaleConfig)
    frames: int = 96
    steps: int = 4000
    batch: int = 8
    patch_px: int = 32
    rate: float = 2e-3
    face_share: float = 0.6  # of the patches that lie on eyes or mouth
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.frames, self.steps, self.batch) < 1 or not 8 <= self.patch_px <= SMALL_PX:
            raise ConfigError(
                f"need frames, steps, batch >= 1 and 8 <= patch_px <= {SMALL_PX}, got {self.frames}, {self.steps}, "
                f"{self.batch}, {self.patch_px}"
            )


@dataclass(frozen=True)
class Pairs:
    """Small pictures (F, 4, 256, 256) and fine large ones (F, 4, 512, 512), float16, premultiplied."""

    small: Tensor
    large: Tensor


def finer(avatar: Avatar, times: int = FINE_STEPS) -> Avatar:
    """The avatar marched in `times` as many steps."""
    field = dataclasses.replace(avatar.config.field_config, step=avatar.config.field_config.step / times)
    return dataclasses.replace(avatar, config=dataclasses.replace(avatar.config, field_config=field))


def drawn_frames(count: int, seed: int) -> list[tuple[NDArray[np.float32], HeadPose]]:
    """Motion (32,) and head pose of `count` frames."""
    space, rng, drawn = load_motion_space(), np.random.default_rng(seed), []
    for _ in range(count):
        motion = np.zeros(MOTION_SIZE, np.float32)
        motion[MOUTH_CODES] = rng.normal(size=MOUTH_CODES.stop)
        motion[LID_CODES] = rng.uniform() if rng.uniform() < BLINKING else 0.0
        motion[GAZE_CODES] = rng.normal(0, 0.05, 2)
        yaw, pitch, roll = rng.uniform(-1, 1, 3) * LARGEST_TURN_DEG
        drawn.append((space.clamp(motion), HeadPose(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll)))
    return drawn


def render_pairs(avatar: Avatar, count: int, seed: int) -> Pairs:
    """What the network is trained on."""
    small = AvatarRenderer(avatar, size_px=SMALL_PX)
    large = AvatarRenderer(finer(avatar), size_px=FACTOR * SMALL_PX)
    pairs = [
        tuple(torch.from_numpy(r.render_head(*frame)).permute(2, 0, 1).half() for r in (small, large))
        for frame in drawn_frames(count, seed)
    ]
    return Pairs(torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs]))


def train_upscale(
    config: UpscaleTraining, out: Path, *, avatar: Path | None = None, report: Report | None = None
) -> float:
    """Train and write the weights; returns the mean squared error of the last hundred steps.

    Raises:
        ModelError: The avatar cannot be loaded.
    """
    loaded = load_avatar(avatar)
    pairs = render_pairs(loaded, config.frames, config.seed)
    net, errors = fit(config, pairs, loaded.config.mouth_box, report)
    tensors = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_checkpoint(
        out,
        tensors,
        kind=KIND,
        config=config.net,
        metadata={"avatar": loaded.config.field_hash, "steps": str(config.steps), "frames": str(config.frames)},
    )
    return float(np.mean(errors[-100:]))


def fit(
    config: UpscaleTraining,
    pairs: Pairs,
    mouth_box: tuple[float, float, float, float],
    report: Report | None = None,
) -> tuple[UpscaleNet, list[float]]:
    """The network after `config.steps`, and each step's mean squared error."""
    torch.manual_seed(config.seed)
    net = UpscaleNet(config.net)
    optimiser = torch.optim.Adam(net.parameters(), config.rate)
    rng = np.random.default_rng((config.seed, 1))
    errors: list[float] = []
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        small, large = _patches(config, pairs, mouth_box, rng)
        loss = (net(small) - large).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
        if report and (step + 1) % 200 == 0:
            report(step + 1, float(np.mean(errors[-200:])))
    return net, errors


def _patches(
    config: UpscaleTraining, pairs: Pairs, box: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A batch of patches that show some of the head, most of them on mouth or eyes."""
    px = config.patch_px
    small: list[Tensor] = []
    large: list[Tensor] = []
    while len(small) < config.batch:
        index = int(rng.integers(len(pairs.small)))
        top, left = rng.integers(0, SMALL_PX - px + 1, 2)
        if rng.random() < config.face_share:
            middle_x = (box[0] + box[2]) / 2
            y = rng.normal((box[1] + box[3]) / 2 - (0.0 if rng.random() < 0.5 else 0.22), 0.04)
            top, left = (int(np.clip(v * SMALL_PX - px / 2, 0, SMALL_PX - px)) for v in (y, rng.normal(middle_x, 0.08)))
        piece = pairs.small[index, :, top : top + px, left : left + px].float()
        if float(piece[3].mean()) < COVERED:
            continue
        small.append(piece)
        large.append(pairs.large[index, :, 2 * top : 2 * (top + px), 2 * left : 2 * (left + px)].float())
    return torch.stack(small), torch.stack(large)
