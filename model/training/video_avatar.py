"""From prepared clips of one person to an avatar folder: presets, training, progress with a live picture.

The field starts from an avatar that is already trained (`warm_start`), so a minute shows a face and half an hour a
likeness. Poses and exposure are refined, turned views are held to the frames' colors, the torso follows the head.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.avatar import Avatar, Consent, load_avatar
from model.errors import ConfigError
from model.face.head_shape import load_head_shape
from model.motion.space import load_motion_space
from model.radiance.occupancy import OccupancyGrid
from model.radiance.renderer import Intrinsics, render_reference
from model.training.avatar import STATE_FILE, AvatarTraining, run_training
from model.training.avatar_config import AvatarTrainingConfig
from model.training.avatar_export import export_avatar
from model.training.avatar_step import LossWeights
from model.training.devices import DeviceName
from model.training.face_loss import FaceLossConfig, load_face_judge
from model.training.outline_start import fill_torso, outline_pairs, outline_tops
from model.training.ray_sampling import halve
from model.training.refinement import RefinementConfig
from model.training.skull_fit import fit_skull
from model.training.surface_fit import SurfaceFitConfig, fit_surface
from model.training.turned_views import Anchor
from model.training.video_frames import CROP_PX, PreparedVideo, load_video
from model.training.warm_start import FaceDisplacement, avatar_neutral, load_start, start_occupancy, widened

PREVIEW_EVERY_S = 15.0
PREVIEW_FILE = "preview.png"
REFINED = RefinementConfig(pose_rate=4e-4, exposure_rate=1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTrainingConfig:
    """How many frames are used, and how the field is trained on them."""

    most_frames: int
    training: AvatarTrainingConfig

    def __post_init__(self) -> None:
        if self.most_frames < 1:
            raise ConfigError(f"most_frames must be at least 1, got {self.most_frames}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a training stands; `psnr_db` is of the training rays, mouth and eyes weighing more than in a picture."""

    step: int
    steps: int
    psnr_db: float
    wall_s: float
    left_s: float
    preview: Path | None


def _video_training(
    *, steps: int, size_px: int, minutes: float, half: float, **further: object
) -> AvatarTrainingConfig:
    base = AvatarTrainingConfig(
        steps=steps,
        size_px=size_px,
        half_size_share=half,
        minutes=minutes,
        losses=LossWeights(patch=0.05, turned=0.05),
        refinement=REFINED,
        face=FaceLossConfig(perceptual=0.02, identity=0.01),
        torso_bases=6,
        patch_every=4,
        turn_every=4,
        swapped_frames=2,
        swapped_turn_deg=20.0,
        spread_start=0.02,
        tight_grid_share=0.15,
        fine_grid_share=0.1,
        plane_rate=8e-3,
        network_rate=2e-3,
        save_every=500,
        log_every=50,
    )
    return dataclasses.replace(base, **further)  # type: ignore[arg-type]


VIDEO_PRESETS = {
    "adapt": VideoTrainingConfig(
        most_frames=75,
        training=_video_training(
            steps=600,
            size_px=256,
            minutes=1.0,
            half=0.6,
            surface=SurfaceFitConfig(steps=100),
            fit_outline=True,
            losses=LossWeights(patch=0.05, turned=0.05, torso_swing=0.1, empty=0.03, missing=0.02),
            warmup_steps=10,
            plane_rate=1.5e-2,
            torso_rate=5e-3,
            final_rate=0.05,
        ),
    ),
    "preview": VideoTrainingConfig(
        most_frames=400, training=_video_training(steps=3_000, size_px=128, minutes=5.0, half=0.0)
    ),
    "standard": VideoTrainingConfig(
        most_frames=1500, training=_video_training(steps=16_000, size_px=256, minutes=40.0, half=0.2)
    ),
    "paper": VideoTrainingConfig(
        most_frames=6000, training=_video_training(steps=60_000, size_px=256, minutes=0.0, half=0.1)
    ),
}


def train_video_avatar(
    prepared: Path,
    folder: Path,
    config: VideoTrainingConfig,
    runs: Path,
    *,
    name: str,
    consent: Consent,
    licence: str,
    provenance: str,
    face_landmarker: Path,
    held_out: Sequence[str] = (),
    start_from: Path | None = None,
    commands: tuple[str, ...] = (),
    report: Callable[[TrainingProgress], None] | None = None,
    device: DeviceName = "auto",
    face_network: Path | None = None,
) -> None:
    """Train on a folder made by `prepare --pictures` and write the avatar; continues what it finds in `runs`.

    Args:
        held_out: Keys of clips that are not trained on.
        start_from: Avatar folder to start from; the shipped one if None.
        commands: Named in the avatar as what made it.
        face_landmarker: MediaPipe's bundle, to find the starting avatar's face.
        face_network: ONNX file of MobileFaceNet or ArcFace, for the perceptual and identity losses; without it they
            are off.

    Raises:
        ConfigError: CUDA is wanted and missing.
        DataError: No clips, or clips without pictures.
        InputError: The face network is missing or foreign.
        ModelError: The loss is not finite, or the avatar to start from does not fit.
    """
    soft_edges = config.training.fit_outline
    video = load_video(prepared, most_frames=config.most_frames, held_out=held_out, soft_edges=soft_edges)
    start = load_avatar(start_from, motion_space=load_motion_space().hash)
    training = begin(video, start, config.training, face_landmarker)
    if face_network is not None:
        training.judge = load_face_judge(face_network)
    if config.training.surface.steps and not (runs / STATE_FILE).is_file():
        began = time.monotonic()
        fit_surface(training, config.training.surface)
        training.elapsed_s += time.monotonic() - began
    run_training(training, runs, _reporter(training, runs / PREVIEW_FILE, report), device)
    export_avatar(
        training,
        folder,
        name=name,
        motion_space=load_motion_space().hash,
        licence=licence,
        commands=commands,
        provenance=f"{provenance}; {len(video.frames)} frames of {len(video.keys)} clips, {training.step} steps",
        consent=consent,
        rest_pose=video.stage.rest_pose,
    )


def begin(video: PreparedVideo, start: Avatar, config: AvatarTrainingConfig, face_landmarker: Path) -> AvatarTraining:
    """A training at step 0, warm; `run_training` resumes it from its state where there is one."""
    sizes = dataclasses.replace(config, field=widened(start.config.field_config))
    frames = video.frames
    while frames.size_px > config.size_px:
        frames = halve(frames)
    if frames.size_px != config.size_px:
        raise ConfigError(f"prepared pictures are {CROP_PX} px: train at that or a half of it, got {config.size_px}")
    shape = load_head_shape()
    new = np.asarray(video.stage.calibration.neutral * shape.inter_ocular_cm, np.float32)
    old = avatar_neutral(start, shape, face_landmarker)
    space = start.config.space
    training = AvatarTraining(sizes, frames, video.stage.camera, video.stage.neck, space)
    warm = _warm(training, start, FaceDisplacement(new, old, space))
    if config.fit_outline:
        skull = fit_skull(*outline_tops(training, warm), sizes.field)
        training = AvatarTraining(sizes, frames, video.stage.camera, video.stage.neck, skull.space(space))
        warm = _warm(training, start, FaceDisplacement(new, old, space, skull=skull))
        warm = _warm(training, start, FaceDisplacement(new, old, space, outline_pairs(training, warm), skull))
        fill_torso(training, warm)
    training.anchor = Anchor(copy.deepcopy(training.field).requires_grad_(False), warm)
    training.begin_with(warm, warm.occupied)
    return training


def _warm(training: AvatarTraining, start: Avatar, displacement: FaceDisplacement) -> OccupancyGrid:
    """Give the training's field the starting avatar through a displacement; where the new head may be."""
    load_start(training.field, start, displacement)
    return start_occupancy(start, displacement, training.hull)


def _reporter(
    training: AvatarTraining, preview: Path, report: Callable[[TrainingProgress], None] | None
) -> Callable[[dict[str, float]], None]:
    last = [0.0]

    def tell(line: dict[str, float]) -> None:
        if time.monotonic() - last[0] > PREVIEW_EVERY_S:
            last[0] = time.monotonic()
            cv2.imwrite(str(preview), preview_picture(training)[..., ::-1])
        if report:
            done = max(training.done, 1e-6)
            report(
                TrainingProgress(
                    step=training.step,
                    steps=training.config.steps,
                    psnr_db=line["psnr"],
                    wall_s=training.elapsed_s,
                    left_s=training.elapsed_s * (1 - done) / done,
                    preview=preview,
                )
            )

    return tell


def preview_picture(training: AvatarTraining, index: int | None = None) -> NDArray[np.uint8]:
    """Truth beside rendering of one training frame, over grey, (S, 2 S, 3) RGB."""
    frames = training.frames
    i = len(frames) // 2 if index is None else index
    cpu = torch.device("cpu")
    field, torso = training.field, training.torso
    if training.device != cpu:
        field, torso = copy.deepcopy(field).to(cpu), copy.deepcopy(torso).to(cpu)
    with torch.no_grad():
        conditions = field.frame_conditions(training.motion[i : i + 1].cpu(), training.rotvec[i : i + 1].cpu())
        lens = Intrinsics(*(float(v) for v in training.lenses[i]))
        occupancy, camera = training.occupancy.to(cpu), training.cameras[i].cpu()
        head, _ = render_reference(field, occupancy, conditions, camera, lens, frames.size_px)
        grid = torch.arange(frames.size_px)
        rows, columns = grid.repeat_interleave(len(grid)), grid.repeat(len(grid))
        layer = torso(rows, columns, None, training.poses[i].cpu().expand(len(rows), 6)).view(head.shape)
    over = head + (1 - head[..., 3:]) * layer
    rendering = over[..., :3] + (1 - over[..., 3:]) * 0.5
    truth = torch.from_numpy(frames.rgba[i]).float() / 255
    truth = truth[..., :3] + (1 - truth[..., 3:]) * 0.5
    pair = torch.cat([truth, rendering], 1).clamp(0, 1)
    return np.asarray((pair * 255).round().to(torch.uint8).numpy(), np.uint8)
