"""How an avatar is trained: length, sizes, rates, losses; the presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from model.errors import ConfigError
from model.radiance.config import FieldConfig
from model.training.avatar_step import LossWeights
from model.training.face_loss import FaceLossConfig
from model.training.ray_sampling import RayShares
from model.training.refinement import RefinementConfig
from model.training.surface_fit import SurfaceFitConfig


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
    swapped_turn_deg: float = 0.0  # foreign rotations are drawn up to this yaw, not from frames; 0: from frames
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
    refinement: RefinementConfig = dataclasses.field(default_factory=RefinementConfig)
    face: FaceLossConfig = dataclasses.field(default_factory=FaceLossConfig)  # where a face network is given
    surface: SurfaceFitConfig = dataclasses.field(default_factory=SurfaceFitConfig)  # before the first step
    fit_outline: bool = False  # the starting head's skull and hair are brought to the person's outline
    torso_bases: int = 0  # 6: the torso follows the head's pose
    patch_every: int = 0  # steps between whole patches around the mouth; 0: none
    patch_px: int = 40
    turn_every: int = 0  # steps between views from turned heads that are held to the frame's colors; 0: none
    minutes: float = 0.0  # training ends early when its wall time is up; 0: no limit
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
    "standard": AvatarTrainingConfig(
        steps=24_000, size_px=256, half_size_share=0.2, patch_every=4, losses=LossWeights(patch=0.03)
    ),
}
