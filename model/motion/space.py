"""The motion space: 32 numbers per frame that join every avatar and every data source.

| index | what | unit |
|---|---|---|
| 0..15 | mouth, jaw, cheeks: principal components of pose-free, neutral-subtracted landmarks | standard deviations |
| 16..19 | brows: inner left, outer left, inner right, outer right, upward | 1/10 inter-ocular distance |
| 20, 21 | lids, left and right: 0 open as at rest .. 1 closed | 1 |
| 22, 23 | gaze: yaw to the subject's left, pitch up | rad |
| 24..31 | reserve, always 0 | |

The basis was built once, over ICT-FaceKit identities and expressions and GRID s1 (train), by
`nerf-lipsync train motion-space`, and is frozen: its content hash is the version, and every avatar and motion model
names it. Left and right are the subject's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import load_checkpoint
from model.errors import ModelError
from model.motion.face_points import LIP_CORNERS, LOWER_LIP_INNER, MOUTH, UPPER_LIP_INNER

MOTION_SIZE = 32
MOUTH_CODES = slice(0, 16)
BROW_CODES = slice(16, 20)
LID_CODES = slice(20, 22)
GAZE_CODES = slice(22, 24)
NUM_MOUTH_CODES = 16
ASSET = Path(__file__).parent.parent / "assets" / "motion_space.safetensors"

Motion = NDArray[np.float32]  # (..., 32)


class MotionSpaceError(ModelError):
    """Motion of the wrong shape, or a model that was made for another motion space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionSpaceConfig:
    """How the basis was built."""

    num_mouth_codes: int = NUM_MOUTH_CODES
    depth_weight: float = 0.5
    identities: int = 48
    seed: int = 2026


@dataclass(frozen=True)
class MotionSpace:
    """Basis, ranges and the map to the 52 ARKit coefficients. Immutable; one per process is enough."""

    hash: str
    basis: NDArray[np.float32]  # (16, len(MOUTH) * 3): displacement in inter-ocular units per unit code
    encoder: NDArray[np.float32]  # (len(MOUTH) * 3, 16): displacement to codes (weighted least squares)
    template: NDArray[np.float32]  # (478, 3): mean neutral face, inter-ocular units, head axes
    low: NDArray[np.float32]  # (32,): 0.1st percentile over the building data
    high: NDArray[np.float32]  # (32,): 99.9th percentile
    arkit_matrix: NDArray[np.float32]  # (52, 32)
    arkit_names: tuple[str, ...]
    closed_gap: float  # inner-lip gap of the template, inter-ocular units

    def mouth_displacement(self, motion: Motion) -> NDArray[np.float32]:
        """(..., len(MOUTH), 3) displacement from neutral, inter-ocular units."""
        check_motion(motion)
        flat = motion[..., MOUTH_CODES] @ self.basis
        return flat.reshape(*motion.shape[:-1], len(MOUTH), 3)

    def lip_opening(self, motion: Motion) -> NDArray[np.float32]:
        """Change of the inner-lip gap against neutral, (...,), inter-ocular units; linear in the codes."""
        check_motion(motion)
        return np.asarray(motion[..., MOUTH_CODES] @ self.opening_row, np.float32)

    def lip_width(self, motion: Motion) -> NDArray[np.float32]:
        """Change of the distance between the lip corners against neutral, (...,), inter-ocular units."""
        check_motion(motion)
        return np.asarray(motion[..., MOUTH_CODES] @ self._width_row, np.float32)

    def to_arkit(self, motion: Motion) -> NDArray[np.float32]:
        """The 52 ARKit coefficients, (..., 52), 0..1, in the order of `arkit_names`."""
        check_motion(motion)
        return np.asarray(np.clip(motion @ self.arkit_matrix.T, 0.0, 1.0), np.float32)

    def clamp(self, motion: Motion) -> Motion:
        """Motion limited to the ranges seen when the space was built."""
        return np.clip(motion, self.low, self.high).astype(np.float32)

    @cached_property
    def opening_row(self) -> NDArray[np.float32]:
        rows = self.basis.reshape(-1, len(MOUTH), 3)
        return rows[:, MOUTH.index(UPPER_LIP_INNER), 1] - rows[:, MOUTH.index(LOWER_LIP_INNER), 1]

    @cached_property
    def _width_row(self) -> NDArray[np.float32]:
        rows = self.basis.reshape(-1, len(MOUTH), 3)
        right, left = (MOUTH.index(i) for i in LIP_CORNERS)
        return rows[:, left, 0] - rows[:, right, 0]


def check_motion(motion: NDArray[np.float32]) -> None:
    """Raise MotionSpaceError unless the last axis has 32 numbers."""
    if motion.shape[-1:] != (MOTION_SIZE,):
        raise MotionSpaceError(f"motion has shape {motion.shape}; the last axis must hold {MOTION_SIZE} numbers")


def check_space_hash(found: str, space: MotionSpace, what: str, retrain: str) -> None:
    """Raise MotionSpaceError when `what` was made for another motion space."""
    if found != space.hash:
        raise MotionSpaceError(
            f"{what} was made for motion space {found}, this is {space.hash}; rebuild it with: {retrain}"
        )


def load_motion_space(path: Path = ASSET) -> MotionSpace:
    """Read the frozen space.

    Raises:
        ModelError: The file is missing, foreign or damaged.
    """
    checkpoint = load_checkpoint(path, kind="motion-space", config_cls=MotionSpaceConfig)
    arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
    return MotionSpace(
        hash=checkpoint.content_hash,
        basis=arrays["basis"],
        encoder=arrays["encoder"],
        template=arrays["template"],
        low=arrays["low"],
        high=arrays["high"],
        arkit_matrix=arrays["arkit_matrix"],
        arkit_names=tuple(checkpoint.metadata["arkit_names"].split(",")),
        closed_gap=float(arrays["closed_gap"][0]),
    )
