"""Trains an avatar's radiance field and torso layer from a capture; plain torch, one CPU core is enough.

`AvatarTraining` owns everything that a step changes, so that saving and loading it continues exactly: randomness
comes from (seed, step) alone.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.checkpoint import load_checkpoint, save_checkpoint
from model.data.capture import Capture, CaptureFrames
from model.errors import ConfigError, ModelError
from model.face.ict_head import IctHead
from model.radiance.camera import CameraConfig, CanonicalSpace, cam_to_canonical
from model.radiance.config import FieldConfig
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker, close_gaps, dilate, refine
from model.radiance.renderer import Intrinsics
from model.radiance.torso import TorsoLayer
from model.training.avatar_start import first_torso, visual_hull
from model.training.avatar_step import LossWeights, RayEmphasis, composite_loss, march, smoothness
from model.training.ray_sampling import RayBatch, RaySampler, RayShares, halve
from model.training.warp_init import HeadMesh, face_warp, initialise_warp, neck_warp

logger = logging.getLogger(__name__)

CHECKPOINT_KIND = "avatar-training"
STATE_FILE = "state.safetensors"
SEED_STRIDE = 1_000_003
SMOOTHNESS_EVERY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AvatarTrainingConfig:
    """Length, sizes, rates and losses. Shares are of `steps`."""

    steps: int
    size_px: int
    half_size_share: float = 0.0  # trained at half the size until then
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    shares: RayShares = dataclasses.field(default_factory=RayShares)
    losses: LossWeights = dataclasses.field(default_factory=LossWeights)
    frames_per_step: int = 8
    samples_per_step: int = 40_000  # of the visibility pass; the number of rays follows
    max_rays: int = 4500
    plane_rate: float = 1.5e-2
    network_rate: float = 4e-3
    warp_rate: float = 4e-4
    torso_rate: float = 1e-3
    warmup_steps: int = 50
    decay_start: float = 0.15
    final_rate: float = 0.02
    motion_noise: float = 0.03
    swapped_frames: int = 2  # per step: conditioned on another frame's head rotation, see `_emphasis`
    swapped_color: float = 0.1
    spread_start: float = 0.1  # depth spread fades in from here over as long again
    prune_start: int = 150
    prune_every: int = 50
    prune_threshold: float = 0.03
    prune_decay: float = 0.6
    tight_prune_decay: float = 0.93  # slower, so that a rare expression keeps its voxels
    grid_size: int = 64
    tight_grid_share: float = 0.3  # from here on most steps march the grid without its dilation
    tight_grid_every: int = 8  # ... all but every so many-th, which finds matter that has moved
    fine_grid_share: float = 0.15  # from here on the occupancy has twice the resolution
    warp_frames: int = 300
    save_every: int = 2000
    log_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.size_px < 8:
            raise ConfigError(f"need steps >= 1 and size_px >= 8, got {self.steps}, {self.size_px}")
        if self.half_size_share > 0 and self.size_px % 2:
            raise ConfigError(f"progressive training needs an even size, got {self.size_px}")


PRESETS = {
    "preview": AvatarTrainingConfig(steps=6_000, size_px=128),
    "standard": AvatarTrainingConfig(steps=28_000, size_px=256, half_size_share=0.2),
}


class AvatarTraining:
    """The trained parts, their optimiser and occupancy; `step` counts finished steps."""

    def __init__(self, config: AvatarTrainingConfig, frames: CaptureFrames, camera: CameraConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.camera = camera
        self.space = CanonicalSpace()
        self.field = RadianceField(config.field)
        self.samplers = {config.size_px: RaySampler(frames, config.shares)}
        if config.half_size_share > 0:
            self.samplers[config.size_px // 2] = RaySampler(halve(frames), config.shares)
        self.frames = frames
        self.cameras = torch.from_numpy(
            np.stack(
                [
                    cam_to_canonical(h, c, self.space)
                    for h, c in zip(frames.head_to_world, frames.cam_to_world, strict=True)
                ]
            )
        )
        self.motion = torch.from_numpy(frames.motion)
        self.rotvec = torch.from_numpy(frames.rotvec)
        self.torso = TorsoLayer(first_torso(frames))
        hull = visual_hull(frames, self.cameras, self._lens(frames.size_px), config.grid_size)
        self.occupancy = OccupancyGrid(hull)
        self.tight = self.occupancy
        self.tracker = WeightTracker(config.grid_size, hull)
        self.modules = nn.ModuleDict({"field": self.field, "torso": self.torso})
        self.optimiser = self._optimiser()
        self.step = 0
        self.rays = 1024.0
        self.elapsed_s = 0.0

    def initialise_warp(self, mesh: HeadMesh, coefficients: NDArray[np.float32], gaze: NDArray[np.float32]) -> None:
        """Start the warp from a head mesh; `coefficients` (F, E) and `gaze` (F, 2) belong to the training frames."""
        count = min(self.config.warp_frames, len(self.motion))
        chosen = np.linspace(0, len(self.motion) - 1, count).round().astype(int)
        face = [face_warp(mesh, mesh.deformed(coefficients[i], gaze[i]), self.config.field, self.space) for i in chosen]
        neck = [neck_warp(self.frames.head_to_world[i], self.config.field, self.space) for i in chosen]
        initialise_warp(self.field, self.motion[chosen], self.rotvec[chosen], torch.stack(face), torch.stack(neck))

    def train_step(self) -> dict[str, float]:
        """Advance by one step; returns figures for the log.

        Raises:
            ModelError: The loss is not finite.
        """
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed * SEED_STRIDE + self.step)
        done = self.step / config.steps
        full = done < config.tight_grid_share or self.step % config.tight_grid_every == 0
        size = config.size_px // 2 if done < config.half_size_share else config.size_px
        batch = self.samplers[size].draw(int(self.rays), config.frames_per_step, generator)
        backgrounds = torch.rand(len(batch.counts), 3, generator=generator)
        noise = config.motion_noise * torch.randn(len(batch.counts), self.motion.shape[1], generator=generator)
        others = torch.randint(len(self.rotvec), (self._swapped(batch),), generator=generator)
        rotations = torch.cat([self.rotvec[others], self.rotvec[batch.frames[len(others) :]]])
        conditions = self.field.frame_conditions(self._noisy(batch, noise), rotations)
        marched = march(
            self.field,
            conditions,
            batch,
            self.cameras[batch.frames],
            self._lens(size),
            self.occupancy if full else self.tight,
            self.tracker,
            generator,
        )
        loss, squared = composite_loss(
            marched, batch, self.torso, backgrounds, self._losses(done), self._emphasis(batch)
        )
        if self.step % SMOOTHNESS_EVERY == 0:
            loss = loss + config.losses.warp_smoothness * smoothness(self.field.warp_basis)
        if not torch.isfinite(loss):
            raise ModelError(f"loss is {float(loss)} at step {self.step}; lower the learning rates")
        self._set_rates(done)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        self._after_step(marched.seen_samples if full == (done < config.tight_grid_share) else None)
        return {
            "loss": float(loss.detach()),
            "psnr": -10 * float(np.log10(squared + 1e-12)),
            "rays": float(sum(batch.counts)),
            "seen": float(marched.seen_samples),
            "kept": float(marched.kept_samples),
            "occupied": self.occupancy.fraction(),
        }

    def save(self, path: Path) -> None:
        """Everything that continuing needs."""
        tensors = {f"module.{k}": v for k, v in self.modules.state_dict().items()}
        for index, (_, state) in enumerate(sorted(self.optimiser.state_dict()["state"].items())):
            tensors.update({f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()})
        tensors["tracker"] = self.tracker.weights
        tensors["limit"] = self.tracker.limit if self.tracker.limit is not None else self.occupancy.occupied
        tensors["tight"] = self.tight.occupied
        tensors["occupied"] = self.occupancy.occupied
        tensors["progress"] = torch.tensor([self.step, self.rays, self.elapsed_s], dtype=torch.float64)
        save_checkpoint(path, tensors, kind=CHECKPOINT_KIND, config=self.config, shard_limit_bytes=1 << 40)

    def load(self, path: Path) -> None:
        """Continue from `save`. The length and rates of this object's own config apply."""
        tensors = load_checkpoint(path, kind=CHECKPOINT_KIND, config_cls=AvatarTrainingConfig).tensors
        prefix = "module."
        self.modules.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        state = self.optimiser.state_dict()
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".")
                state["state"].setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(state)
        self.tracker = WeightTracker(len(tensors["occupied"]), tensors["limit"])
        self.tracker.weights = tensors["tracker"]
        self.occupancy = OccupancyGrid(tensors["occupied"])
        self.tight = OccupancyGrid(tensors["tight"])
        step, self.rays, self.elapsed_s = (float(v) for v in tensors["progress"])
        self.step = int(step)

    def _swapped(self, batch: RayBatch) -> int:
        return min(self.config.swapped_frames, len(batch.counts) - 1)

    def _emphasis(self, batch: RayBatch) -> RayEmphasis:
        """Full weight, but for the frames that come first with a foreign head rotation as their condition.

        In a capture with a still camera the view from the head is a function of its rotation, so a field conditioned
        on it could have a different shape for every pose. Where shape must not change (above the chin), silhouettes
        have to agree under any rotation; color hardly counts there, for the shading is the other pose's.
        """
        count = sum(batch.counts[: self._swapped(batch)])
        opacity = torch.ones(len(batch.rows))
        color = torch.ones(len(batch.rows))
        scale = batch.size_px / self.frames.size_px
        chin = torch.from_numpy(self.frames.mouth_box[:, 3])[batch.frames] * scale
        limit = chin.repeat_interleave(torch.tensor(batch.counts))[:count]
        opacity[:count] = (batch.rows[:count] < limit).float()
        color[:count] = opacity[:count] * self.config.swapped_color
        return RayEmphasis(color, opacity)

    def _noisy(self, batch: RayBatch, noise: Tensor) -> Tensor:
        motion = self.motion[batch.frames]
        mouth = torch.arange(motion.shape[1]) < 16  # noise in standard deviations, so only where that is the unit
        return motion + noise * mouth

    def _lens(self, size_px: int) -> Intrinsics:
        return Intrinsics(*self.camera.intrinsics(size_px))

    def _losses(self, done: float) -> LossWeights:
        weights, start = self.config.losses, self.config.spread_start
        fade = min(1.0, max(0.0, (done - start) / max(start, 1e-6)))
        return LossWeights(
            head_opacity=weights.head_opacity,
            depth_spread=weights.depth_spread * fade,
            warp_smoothness=weights.warp_smoothness,
        )

    def _optimiser(self) -> torch.optim.Optimizer:
        config, network = self.config, []
        for name, parameter in self.field.named_parameters():
            if name not in ("planes", "warp_basis", "warp_mix.weight", "warp_mix.bias"):
                network.append(parameter)
        mix = [self.field.warp_mix.weight, self.field.warp_mix.bias]
        groups = [
            {"params": [self.field.planes], "lr": config.plane_rate, "eps": 1e-15},
            {"params": network, "lr": config.network_rate, "eps": 1e-15},
            {"params": [self.field.warp_basis], "lr": config.warp_rate, "eps": 1e-8},
            {"params": mix, "lr": config.warp_rate, "eps": 1e-12},
            {"params": [self.torso.rgba], "lr": config.torso_rate, "eps": 1e-12},
        ]
        for group in groups:
            group["base_lr"] = group["lr"]
        return torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def _set_rates(self, done: float) -> None:
        config = self.config
        warm = min(1.0, self.step / config.warmup_steps + 0.1)
        late = max(0.0, (done - config.decay_start) / (1 - config.decay_start))
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * warm * config.final_rate**late

    def _after_step(self, seen_samples: int | None) -> None:
        """Set the number of rays by what the usual kind of step saw; refine and prune the occupancy."""
        config = self.config
        if seen_samples is not None:
            self._set_rays(seen_samples)
        if self.tracker.size == config.grid_size and self.step >= config.fine_grid_share * config.steps:
            self.tracker.refine()
            self.occupancy = OccupancyGrid(refine(self.occupancy.occupied))
            self.tight = self.occupancy
        if self.step >= config.prune_start and self.step % config.prune_every == 0:
            late = self.step >= config.tight_grid_share * config.steps
            decay = config.tight_prune_decay if late else config.prune_decay
            tight = self.tracker.grid(config.prune_threshold, dilation=0, decay=decay)
            if bool(tight.occupied.any()):
                self.tight = OccupancyGrid(close_gaps(tight.occupied))
                self.occupancy = OccupancyGrid(dilate(tight.occupied, 1))
                if self.tracker.limit is not None:
                    self.occupancy = OccupancyGrid(self.occupancy.occupied & self.tracker.limit)

    def _set_rays(self, seen_samples: int) -> None:
        config = self.config
        wanted = self.rays * (0.9 + 0.1 * config.samples_per_step / max(1, seen_samples))
        self.rays = min(float(config.max_rays), max(256.0, wanted))


def prepare_training(
    capture: Capture,
    frames: CaptureFrames,
    config: AvatarTrainingConfig,
    ict_head: Path | None,
) -> AvatarTraining:
    """A training at step 0; with the ICT-FaceKit arrays the warp starts from the head mesh, else from nothing."""
    training = AvatarTraining(config, frames, capture.camera())
    if ict_head is not None:
        meta, rows = capture.meta, capture.rows("train")[: len(frames)]
        mesh = HeadMesh.build(
            IctHead.load(ict_head),
            meta["identity_weights"],
            meta["coeff_names"],
            meta["coeff_base"],
            np.array([eye["center"] for eye in meta["eyes"]], np.float32),
        )
        gaze = np.array([meta["frames"][i]["gaze"] for i in rows], np.float32)
        training.initialise_warp(mesh, capture.expression(rows), gaze)
    return training


def run_training(
    training: AvatarTraining, folder: Path, report: Callable[[dict[str, float]], None] | None = None
) -> None:
    """Train to the end in `folder`: `state.safetensors` (resumed when there) and `curve.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / STATE_FILE
    if state.is_file():
        training.load(state)
        logger.info("continuing at step %d", training.step)
    began = time.monotonic() - training.elapsed_s
    sums: dict[str, float] = {}
    with (folder / "curve.jsonl").open("a") as curve:
        while training.step < training.config.steps:
            for key, value in training.train_step().items():
                sums[key] = sums.get(key, 0.0) + value
            training.elapsed_s = time.monotonic() - began
            if training.step % training.config.log_every == 0:
                line = {k: v / training.config.log_every for k, v in sums.items()}
                line |= {"step": training.step, "wall_s": training.elapsed_s, "cpu_s": time.process_time()}
                sums = {}
                curve.write(json.dumps({k: round(v, 5) for k, v in line.items()}) + "\n")
                curve.flush()
                if report:
                    report(line)
            if training.step % training.config.save_every == 0 or training.step == training.config.steps:
                training.save(state)
