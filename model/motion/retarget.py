"""From the speaker whose motion was learned to the face that shows it: a linear map of the audio-owned codes.

Two faces do not use all codes alike (lips differ in shape, trackers in habit). Where both are known for the same
moments, a ridge regression through the neutral face maps one to the other; without pairs the map is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointError
from model.motion.space import MotionSpace, check_motion
from model.motion.vae import AUDIO_OWNED

RETARGET_FILE = "retarget.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetargetConfig:
    """Where a map comes from."""

    source: str = "GRID s1"
    ridge: float = 1.0
    pairs: int = 0


@dataclass(frozen=True)
class Retarget:
    """The map; identity by default."""

    matrix: NDArray[np.float32]  # (20, 20), applied as motion @ matrix.T

    @classmethod
    def identity(cls) -> Retarget:
        """For a face that moves as the speaker did."""
        return cls(np.eye(AUDIO_OWNED, dtype=np.float32))

    @classmethod
    def load(cls, avatar_folder: Path) -> Retarget:
        """The avatar's own map, or the identity when it has none.

        Raises:
            ModelError: The file is damaged, or holds another map.
        """
        path = avatar_folder / RETARGET_FILE
        if not path.is_file():
            return cls.identity()
        checkpoint = load_checkpoint(path, kind="retarget", config_cls=RetargetConfig)
        matrix = checkpoint.tensors.get("matrix")
        if matrix is None or matrix.shape != (AUDIO_OWNED, AUDIO_OWNED):
            found = "none" if matrix is None else str(tuple(matrix.shape))
            raise CheckpointError(path, f"needs a matrix of {AUDIO_OWNED} x {AUDIO_OWNED}, it holds {found}")
        return cls(matrix.numpy())

    def __call__(self, motion: NDArray[np.float32]) -> NDArray[np.float32]:
        """Motion (..., 32) of the avatar."""
        check_motion(motion)
        out = motion.copy()
        out[..., :AUDIO_OWNED] = motion[..., :AUDIO_OWNED] @ self.matrix.T
        return out


def fit_retarget(
    speaker: NDArray[np.float32], face: NDArray[np.float32], space: MotionSpace, out: Path, *, ridge: float = 1.0
) -> Retarget:
    """Fit the map on pairs (N, 32) of the same moments and write it to `out`."""
    check_motion(speaker)
    x, y = speaker[:, :AUDIO_OWNED].astype(np.float64), face[:, :AUDIO_OWNED].astype(np.float64)
    matrix = np.linalg.solve(x.T @ x + ridge * np.eye(AUDIO_OWNED), x.T @ y).T.astype(np.float32)
    save_checkpoint(
        out,
        {"matrix": torch.from_numpy(np.ascontiguousarray(matrix))},
        kind="retarget",
        config=RetargetConfig(ridge=ridge, pairs=len(x)),
        metadata={"motion_space": space.hash},
    )
    return Retarget(matrix)
