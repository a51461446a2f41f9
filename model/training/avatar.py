"""Trains an avatar's radiance field and torso layer from a capture; plain torch, one CPU core is enough.

`AvatarTraining` owns everything that a step changes, so that saving and loading it continues exactly: randomness
comes from (seed, step) alone.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.checkpoint import load_checkpoint, save_checkpoint
from model.data.capture import CaptureFrames
from model.errors import ModelError
from model.radiance.camera import CameraConfig, CanonicalSpace, NeckConfig, cam_to_canonical
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker, close_gaps, dilate, refine
from model.radiance.serving import torso_pose
from model.radiance.torso import TorsoLayer
from model.training.avatar_config import PRESETS, AvatarTrainingConfig
from model.training.avatar_start import first_torso, visual_hull
from model.training.avatar_step import LossWeights, RayEmphasis, Stage, composite_loss, march, smoothness
from model.training.devices import DeviceName, choose_device
from model.training.face_loss import FaceJudge, face_loss
from model.training.fused_march import Marched
from model.training.patches import mouth_patch, patch_loss
from model.training.ray_sampling import RayBatch, RaySampler, halve
from model.training.refinement import Refinement
from model.training.turned_views import Anchor, turned_loss, turned_poses
from model.training.warp_init import HeadMesh, face_warp, initialise_warp, neck_warp

__all__ = ["PRESETS", "AvatarTraining", "AvatarTrainingConfig", "run_training"]

logger = logging.getLogger(__name__)

CHECKPOINT_KIND = "avatar-training"
STATE_FILE = "state.safetensors"
SEED_STRIDE = 1_000_003
SMOOTHNESS_EVERY = 8
TORSO_EPS, TORSO_EPS_OUTLINE = 1e-12, 1e-7  # the second above the gradients of what the head hides


class AvatarTraining:
    """The trained parts, their optimiser and occupancy; `step` counts finished steps."""

    occupancy: OccupancyGrid
    tight: OccupancyGrid
    tracker: WeightTracker

    def __init__(
        self,
        config: AvatarTrainingConfig,
        frames: CaptureFrames,
        camera: CameraConfig,
        neck: NeckConfig | None = None,
        space: CanonicalSpace | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.device = torch.device("cpu")
        self.config = config
        self.camera = camera
        self.space = space or CanonicalSpace()
        self.neck = neck or NeckConfig()
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
        self.lenses = frame_lenses(frames, camera)
        self.poses = torso_poses(frames, self.space)
        self.torso = TorsoLayer(first_torso(frames), config.torso_bases)
        clip = frames.clip if frames.clip is not None else np.zeros(len(frames), np.int64)
        self.refinement = Refinement(len(frames), torch.from_numpy(clip))
        self.hull = visual_hull(frames, self.cameras, self.lenses, config.grid_size)
        self.begin_with(OccupancyGrid(self.hull), self.hull)
        self.modules = nn.ModuleDict({"field": self.field, "torso": self.torso, "refinement": self.refinement})
        self.optimiser = self._optimiser()
        self.stands_in: Tensor | None = None  # (S, S) bool: there the torso layer may show the head
        self.anchor: Anchor | None = None  # not saved: whoever resumes sets it again, on the training's device
        self.judge: FaceJudge | None = None  # nor is this
        self.step = 0
        self.rays = 1024.0
        self.elapsed_s = 0.0

    def to(self, device: torch.device) -> None:
        """Train on `device` from here on; pictures stay in memory, drawn rays follow. The optimiser starts anew."""
        if device == self.device:
            return
        self.device = device
        self.modules.to(device)
        for name in ("cameras", "motion", "rotvec", "lenses", "poses"):
            setattr(self, name, getattr(self, name).to(device))
        self.occupancy, self.tight = self.occupancy.to(device), self.tight.to(device)
        self.tracker.to(device)
        if self.anchor is not None:
            self.anchor = Anchor(self.anchor.field.to(device), self.anchor.occupancy.to(device))
        if self.judge is not None:
            self.judge.to(device)
        self.optimiser = self._optimiser()

    def begin_with(self, occupancy: OccupancyGrid, limit: Tensor) -> None:
        """Occupancy at step 0, and the voxels (G, G, G) that may ever be occupied."""
        self.occupancy = self.tight = occupancy.to(self.device)
        self.tracker = WeightTracker(self.config.grid_size, limit).to(self.device)

    def initialise_warp(self, mesh: HeadMesh, coefficients: NDArray[np.float32], gaze: NDArray[np.float32]) -> None:
        """Start the warp from a head mesh; `coefficients` (F, E) and `gaze` (F, 2) belong to the training frames."""
        count = min(self.config.warp_frames, len(self.motion))
        chosen = np.linspace(0, len(self.motion) - 1, count).round().astype(int)
        face = [face_warp(mesh, mesh.deformed(coefficients[i], gaze[i]), self.config.field, self.space) for i in chosen]
        neck = [neck_warp(self.frames.head_to_world[i], self.config.field, self.space) for i in chosen]
        motion, rotvec = self.motion[chosen].cpu(), self.rotvec[chosen].cpu()
        initialise_warp(self.field, motion, rotvec, torch.stack(face), torch.stack(neck))

    def train_step(self) -> dict[str, float]:
        """Advance by one step; returns figures for the log.

        Raises:
            ModelError: The loss is not finite.
        """
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed * SEED_STRIDE + self.step)
        done = self.done
        full = done < config.tight_grid_share or self.step % config.tight_grid_every == 0
        size = config.size_px // 2 if done < config.half_size_share else config.size_px
        batch = self.samplers[size].draw(int(self.rays), config.frames_per_step, generator).to(self.device)
        backgrounds = torch.rand(len(batch.counts), 3, generator=generator).to(self.device)
        noise = config.motion_noise * torch.randn(len(batch.counts), self.motion.shape[1], generator=generator)
        foreign = self._foreign_rotations(self._swapped(batch), generator)
        rotations = torch.cat([foreign, self.rotvec[batch.frames[len(foreign) :]]])
        conditions = self.field.frame_conditions(self._noisy(batch, noise.to(self.device)), rotations)
        occupancy = self.occupancy if full else self.tight
        cameras, lenses = self._views(batch, done)
        marched = march(self.field, conditions, batch, cameras, lenses, occupancy, self.tracker, generator)
        stage = Stage(self.torso, self.poses[batch.frames], self.refinement if self._refining(done) else None)
        loss, squared = composite_loss(marched, batch, stage, backgrounds, self._losses(done), self._emphasis(batch))
        loss = loss + self._extra_losses(batch, done, occupancy, generator)
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

    @property
    def done(self) -> float:
        """Share of the training that is over, 0..1: by steps, or by time where that is limited and runs out first."""
        spent = self.elapsed_s / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(1.0, max(self.step / self.config.steps, spent))

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
        tensors = {name: tensor.cpu() for name, tensor in tensors.items()}
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
        self.tracker.to(self.device)
        self.occupancy = OccupancyGrid(tensors["occupied"]).to(self.device)
        self.tight = OccupancyGrid(tensors["tight"]).to(self.device)
        step, self.rays, self.elapsed_s = (float(v) for v in tensors["progress"])
        self.step = int(step)

    def looked(
        self, batch: RayBatch, done: float, occupancy: OccupancyGrid, generator: torch.Generator
    ) -> tuple[Marched, Stage]:
        """Some pixels of filmed frames as field and torso show them now, with the frames' own motion and pose."""
        stage = Stage(self.torso, self.poses[batch.frames], self.refinement if self._refining(done) else None)
        conditions = self.field.frame_conditions(self.motion[batch.frames], self.rotvec[batch.frames])
        cameras, lenses = self._views(batch, done)
        return march(self.field, conditions, batch, cameras, lenses, occupancy, self.tracker, generator), stage

    def _swapped(self, batch: RayBatch) -> int:
        return min(self.config.swapped_frames, len(batch.counts) - 1)

    def _foreign_rotations(self, count: int, generator: torch.Generator) -> Tensor:
        if self.config.swapped_turn_deg == 0:
            return self.rotvec[torch.randint(len(self.rotvec), (count,), generator=generator)]
        most = self.config.swapped_turn_deg * torch.tensor([0.4, 1.0, 0.2]) * (math.pi / 180)
        return ((2 * torch.rand(count, 3, generator=generator) - 1) * most).to(self.device)

    def _emphasis(self, batch: RayBatch) -> RayEmphasis:
        """Full weight, but for the frames that come first with a foreign head rotation as their condition.

        In a capture with a still camera the view from the head is a function of its rotation, so a field conditioned
        on it could have a different shape for every pose. Where shape must not change (above the chin), silhouettes
        have to agree under any rotation; color hardly counts there, for the shading is the other pose's.
        """
        count = sum(batch.counts[: self._swapped(batch)])
        opacity = batch.sure.float()
        color = batch.sure.float()
        scale = batch.size_px / self.frames.size_px
        if self.stands_in is not None:
            ratio = self.frames.size_px // batch.size_px
            instead = self.stands_in.to(self.device)[batch.rows * ratio, batch.columns * ratio]
            opacity *= ~(instead & (batch.head > 0))
        chin = torch.from_numpy(self.frames.mouth_box[:, 3]).to(self.device)[batch.frames] * scale
        limit = chin[batch.frame_of_ray][:count]
        opacity[:count] *= (batch.rows[:count] < limit).float()
        color[:count] = opacity[:count] * self.config.swapped_color
        return RayEmphasis(color, opacity)

    def _noisy(self, batch: RayBatch, noise: Tensor) -> Tensor:
        motion = self.motion[batch.frames]
        mouth = (
            torch.arange(motion.shape[1], device=self.device) < 16
        )  # noise in standard deviations, so only where that is the unit
        return motion + noise * mouth

    def _views(self, batch: RayBatch, done: float) -> tuple[Tensor, Tensor]:
        """Cameras (B, 3, 4) and lenses (B, 4) of the batch's frames at its size."""
        cameras = self.cameras[batch.frames]
        if self._refining(done) and self.config.refinement.pose_rate > 0:
            cameras = self.refinement.cameras(cameras, batch.frames)
        return cameras, self.lenses[batch.frames] * (batch.size_px / self.frames.size_px)

    def _refining(self, done: float) -> bool:
        config = self.config.refinement
        return done >= config.start and max(config.pose_rate, config.exposure_rate) > 0

    def _extra_losses(
        self, batch: RayBatch, done: float, occupancy: OccupancyGrid, generator: torch.Generator
    ) -> Tensor:
        """What is not due at every step: smooth bases, likely corrections, patches, turned views."""
        config, loss = self.config, torch.zeros((), device=self.device)
        if self.step % SMOOTHNESS_EVERY == 0:
            loss = loss + config.losses.warp_smoothness * smoothness(self.field.warp_basis)
        if self._refining(done):
            loss = loss + self.refinement.prior(config.refinement, batch.frames)
        if config.patch_every and self.step % config.patch_every == 1 and done >= config.half_size_share:
            patch = mouth_patch(self.samplers[config.size_px], config.patch_px, generator).to(self.device)
            marched, stage = self.looked(patch, done, occupancy, generator)
            loss = loss + config.losses.patch * patch_loss(marched, patch, stage, config.patch_px)
        if config.turn_every and self.step % config.turn_every == 0:
            loss = loss + config.losses.turned * turned_loss(self, occupancy, generator)
            if self.torso.moves and config.losses.torso_swing:
                loss = loss + config.losses.torso_swing * self.torso.swing(turned_poses(self))
        if self.judge is not None and config.face.due(self.step):
            loss = loss + face_loss(self, self.judge, done, occupancy, generator)
        return loss

    def _losses(self, done: float) -> LossWeights:
        weights, start = self.config.losses, self.config.spread_start
        fade = min(1.0, max(0.0, (done - start) / max(start, 1e-6)))
        return dataclasses.replace(weights, depth_spread=weights.depth_spread * fade)

    def _optimiser(self) -> torch.optim.Optimizer:
        config, network = self.config, []
        torso_eps = TORSO_EPS_OUTLINE if config.fit_outline else TORSO_EPS
        for name, parameter in self.field.named_parameters():
            if name not in ("planes", "warp_basis", "warp_mix.weight", "warp_mix.bias"):
                network.append(parameter)
        mix = [self.field.warp_mix.weight, self.field.warp_mix.bias]
        groups = [
            {"params": [self.field.planes], "lr": config.plane_rate, "eps": 1e-15},
            {"params": network, "lr": config.network_rate, "eps": 1e-15},
            {"params": [self.field.warp_basis], "lr": config.warp_rate, "eps": 1e-8},
            {"params": mix, "lr": config.warp_rate, "eps": 1e-12},
            {"params": [self.torso.rgba], "lr": config.torso_rate, "eps": torso_eps},
            {"params": [self.torso.mix, self.torso.basis], "lr": config.torso_rate, "eps": 1e-12},
            {"params": [self.refinement.pose], "lr": config.refinement.pose_rate, "eps": 1e-12},
            {
                "params": [self.refinement.gain, self.refinement.offset],
                "lr": config.refinement.exposure_rate,
                "eps": 1e-12,
            },
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
        if self.tracker.size == config.grid_size and self.done >= config.fine_grid_share:
            self.tracker.refine()
            self.occupancy = OccupancyGrid(refine(self.occupancy.occupied))
            self.tight = self.occupancy
        if self.step >= config.prune_start and self.step % config.prune_every == 0:
            late = self.done >= config.tight_grid_share
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


def frame_lenses(frames: CaptureFrames, camera: CameraConfig) -> Tensor:
    """(F, 4) fx, fy, cx, cy in pixels at the frames' size."""
    if frames.lens is not None:
        return torch.from_numpy(np.asarray(frames.lens, np.float32))
    return torch.tensor(camera.intrinsics(frames.size_px)).float().expand(len(frames), 4)


def torso_poses(frames: CaptureFrames, space: CanonicalSpace) -> Tensor:
    """(F, 6) what a torso follows: rotation vector over its scale, shift of the head's centre in canonical units."""
    poses = [torso_pose(r, h, space) for r, h in zip(frames.rotvec, frames.head_to_world, strict=True)]
    return torch.from_numpy(np.stack(poses))


def run_training(
    training: AvatarTraining,
    folder: Path,
    report: Callable[[dict[str, float]], None] | None = None,
    device: DeviceName = "auto",
) -> None:
    """Train to the end in `folder`: `state.safetensors` (resumed when there), `curve.jsonl`.

    Raises:
        ConfigError: CUDA is wanted and missing.
        ModelError: The loss is not finite.
    """
    training.to(choose_device(device))
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / STATE_FILE
    if state.is_file():
        training.load(state)
        logger.info("continuing at step %d", training.step)
    began = time.monotonic() - training.elapsed_s
    sums: dict[str, float] = {}
    with (folder / "curve.jsonl").open("a") as curve:
        while training.done < 1:
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
            if training.step % training.config.save_every == 0 or training.done >= 1:
                training.save(state)
