"""How motion appears from the side: what head pose adds to the codes that a tracker reads, and how to take it off.

    apparent = motion + sum_j t_j(pose) (offset_j + motion slope_j)

over the 20 audio-owned codes; the terms t_j vanish for a frontal head, where apparent motion is motion, bit for bit.
Offset and slope are a ridge regression on a rendered capture of known motion and pose
(`nerf-lipsync train view-bias`): what `prepare` still reads wrongly once the tracker's mean error under each pose has
been taken off every landmark (`face_analysis.safetensors`). Lids and gaze are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.errors import CheckpointError, InputError
from model.motion.space import BROW_CODES, MOTION_SIZE, MOUTH_CODES, MotionSpace, check_space_hash, load_motion_space
from model.motion.vae import AUDIO_OWNED

ASSET: Final = Path(__file__).parent.parent / "assets" / "view_bias.safetensors"
KIND: Final = "view-bias"
REMEDY: Final = "nerf-lipsync train view-bias"
POSE_UNIT_DEG: Final = 20.0
"""A U-Net is told yaw, pitch and roll in this unit."""
OFFSET_TERMS: Final = 7  # yaw, pitch, roll, yaw², pitch², yaw pitch, yaw³ in POSE_UNIT_DEG
SLOPE_TERMS: Final = 4  # the first of them
MAX_CONDITION: Final = 4.0
"""Largest condition number, in units of `code_sizes`, that the map may have at a pose it was measured at."""
BROW_UNIT_IOD: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewBiasConfig:
    """How the map was fitted, and the poses it was measured at. Beyond them it stays as it is at the limit."""

    offset_ridge: float = 0.1
    slope_ridge: float = 10.0
    frames: int = 0
    yaw_limit_deg: float = 25.0
    pitch_limit_deg: float = 12.0
    roll_limit_deg: float = 8.0

    @property
    def limits_deg(self) -> tuple[float, float, float]:
        """Yaw, pitch, roll."""
        return self.yaw_limit_deg, self.pitch_limit_deg, self.roll_limit_deg


@dataclass(frozen=True)
class ViewBias:
    """The map. Immutable; one per process is enough."""

    hash: str
    offset: Tensor  # (7, 20)
    slope: Tensor  # (4, 20, 20), applied as motion @ slope
    config: ViewBiasConfig

    @classmethod
    def load(cls, path: Path = ASSET) -> ViewBias:
        """Read the map.

        Raises:
            MotionSpaceError: It was made for another motion space.
            CheckpointError: The file is missing, foreign or damaged, or its map cannot be undone.
        """
        checkpoint = load_checkpoint(path, kind=KIND, config_cls=ViewBiasConfig)
        space = load_motion_space()
        check_space_hash(checkpoint.metadata.get("motion_space", "none"), space, str(path), REMEDY)
        bias = cls(
            checkpoint.content_hash, checkpoint.tensors["offset"], checkpoint.tensors["slope"], checkpoint.config
        )
        condition = bias.worst_condition(space)
        if condition > MAX_CONDITION:
            raise CheckpointError(
                path, f"cannot be undone (condition {condition:.1f}, at most {MAX_CONDITION:g}); run: {REMEDY}"
            )
        return bias

    def apparent(self, motion: Tensor, pose_deg: Tensor) -> Tensor:
        """Motion (..., 32) as it appears with the head turned by `pose_deg`.

        Args:
            motion: (..., 32).
            pose_deg: (..., 3) yaw to the subject's left, pitch down, roll to the subject's right; its leading axes
                broadcast against those of `motion` (a window's pose is (B, 1, 3)).

        Raises:
            InputError: The shapes are wrong.
        """
        offset, turn = self._at(motion, pose_deg)
        return self._with_owned(motion, _rows(motion, turn) + offset)

    def canonical(self, apparent: Tensor, pose_deg: Tensor) -> Tensor:
        """Undo `apparent`: the motion (..., 32) of a frontal head. Arguments and errors as there."""
        offset, turn = self._at(apparent, pose_deg)
        owned = apparent[..., :AUDIO_OWNED] - offset
        back: Tensor = torch.linalg.inv(turn)
        return self._with_owned(apparent, _rows(owned, back))

    def canonical_array(self, apparent: NDArray[np.float32], pose_deg: NDArray[np.floating]) -> NDArray[np.float32]:
        """`canonical` of NumPy arrays."""
        pose = torch.from_numpy(np.asarray(pose_deg, np.float32))
        return np.asarray(self.canonical(torch.from_numpy(apparent), pose).numpy(), np.float32)

    def worst_condition(self, space: MotionSpace) -> float:
        """Largest condition number of the map over the poses it was measured at, codes in units of `code_sizes`."""
        sizes = torch.from_numpy(code_sizes(space)[:AUDIO_OWNED]).double()
        shares = (-1.0, -0.5, 0.0, 0.5, 1.0)
        poses = torch.tensor(list(product(shares, repeat=3))) * torch.tensor(self.config.limits_deg)
        _, turn = self._at(torch.zeros(len(poses), MOTION_SIZE), poses)
        scaled = turn.double() / sizes[:, None] * sizes
        return float(torch.linalg.cond(scaled).max())

    def _at(self, motion: Tensor, pose_deg: Tensor) -> tuple[Tensor, Tensor]:
        """Offset (..., 20) and matrix (..., 20, 20) at poses (..., 3)."""
        if motion.shape[-1:] != (MOTION_SIZE,) or pose_deg.shape[-1:] != (3,):
            raise InputError(
                f"motion is (..., {MOTION_SIZE}) and pose (..., 3), got {tuple(motion.shape)} and "
                f"{tuple(pose_deg.shape)}; give yaw, pitch and roll in degrees"
            )
        terms = pose_terms(pose_deg.to(motion), self.config.limits_deg)
        offset, slope = self.offset.to(motion), self.slope.to(motion)
        turn = torch.tensordot(terms[..., :SLOPE_TERMS], slope, 1)
        return terms @ offset, turn + torch.eye(AUDIO_OWNED).to(motion)

    @staticmethod
    def _with_owned(motion: Tensor, owned: Tensor) -> Tensor:
        rest = motion[..., AUDIO_OWNED:].expand(*owned.shape[:-1], MOTION_SIZE - AUDIO_OWNED)
        return torch.cat([owned, rest], -1)


def pose_terms(pose_deg: Tensor, limits_deg: tuple[float, float, float]) -> Tensor:
    """(..., 7) terms of poses (..., 3): yaw, pitch, roll, yaw², pitch², yaw pitch, yaw³; unit 20 degrees."""
    limits = torch.tensor(limits_deg).to(pose_deg)
    yaw, pitch, roll = (torch.clamp(pose_deg, -limits, limits) / POSE_UNIT_DEG).unbind(-1)
    return torch.stack([yaw, pitch, roll, yaw**2, pitch**2, yaw * pitch, yaw**3], -1)


def code_sizes(space: MotionSpace) -> NDArray[np.float32]:
    """(32,) how far a unit of each code moves its landmarks, inter-ocular units (root mean square).

    Lids, gaze and the reserve count 0.
    """
    sizes = np.zeros(MOTION_SIZE, np.float32)
    landmarks = space.basis.shape[1] / 3
    sizes[MOUTH_CODES] = np.sqrt((space.basis**2).sum(1) / landmarks)
    sizes[BROW_CODES] = BROW_UNIT_IOD
    return sizes


def _rows(motion: Tensor, matrices: Tensor) -> Tensor:
    """Owned codes of (..., 20 or more) times (..., 20, 20), the leading axes broadcast."""
    out: Tensor = (motion[..., None, :AUDIO_OWNED] @ matrices)[..., 0, :]
    return out
