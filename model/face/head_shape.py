"""The head that landmarks are read against: a mean face, its expressions, and how the tracker errs under head turns.

One asset (`face_analysis.safetensors`, made by `nerf-lipsync train face-analysis`): the ICT-FaceKit mean face and its
expression shapes at the 478 landmarks (MIT), and the tracker's pose bias: the displacement, in head axes, of each
landmark from where it is, as a polynomial of yaw, pitch and roll, measured on a rendered capture of known geometry.
Offline only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.checkpoint import load_checkpoint
from model.face.pose_free import inter_ocular
from model.motion.face_points import MOUTH

ASSET: Final = Path(__file__).parent.parent / "assets" / "face_analysis.safetensors"
BIAS_LIMIT_RAD: Final = 0.5  # the bias was measured up to about 25 degrees; beyond, it stays as it is there
BIAS_TERMS: Final = 7

_BROWS: Final = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
_LIDS: Final = (
    *(246, 161, 160, 159, 158, 157, 173, 155, 154, 153, 145, 144, 163, 7),
    *(398, 384, 385, 386, 387, 388, 466, 249, 390, 373, 374, 380, 381, 382),
)
STABLE: Final = tuple(sorted(set(range(468)) - set(MOUTH) - set(_BROWS) - set(_LIDS)))
"""Landmarks that carry the head pose: all but those of the mouth codes, brows and lids.

Half of them lie around the mouth and on the lower face, and a jaw opened wide turns the found head by 0.9 degrees. They
stay: without them the error of turned heads grows from 1.0 to 1.7 degrees (rendered capture, median).
"""

OPENCV_FROM_HEAD: Final = np.diag([1.0, -1.0, -1.0])  # head axes (y up, z out) to camera axes of a frontal head


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceAnalysisConfig:
    """How the asset was made."""

    bias_frames: int = 0
    bias_ridge: float = 1e-3


@dataclass(frozen=True)
class HeadShape:
    """Mean face, expressions and tracker bias. Immutable; one per process is enough.

    Axes: x to the subject's left, y up, z out of the face; units of `neutral` and `expressions` are centimetres.
    """

    hash: str
    neutral: NDArray[np.float32]  # (478, 3) cm
    expressions: NDArray[np.float32]  # (E, 478, 3) cm per unit weight
    expression_names: tuple[str, ...]  # ICT's, `_L`/`_R`
    pose_bias: NDArray[np.float32]  # (7, 478, 3) inter-ocular units per term of `pose_terms`

    @cached_property
    def inter_ocular_cm(self) -> float:
        """Distance between the middles of the eyes' corners of the mean face."""
        return inter_ocular(self.neutral)

    def tracker_bias(self, rotation: NDArray[np.float64]) -> NDArray[np.float32]:
        """(T, 478, 3) displacement of tracked points from true ones, inter-ocular units, at rotations (T, 3, 3)."""
        terms = pose_terms(rotation)
        return np.asarray(np.tensordot(terms, self.pose_bias, 1), np.float32)


def head_angles(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Yaw, pitch, roll (..., 3) in radians of head-to-camera rotations (..., 3, 3) in OpenCV axes.

    R = Ry(yaw) Rx(pitch) Rz(roll) in y-up axes: yaw > 0 turns to the subject's left, pitch > 0 looks down,
    roll > 0 tilts the top of the head to the subject's right.
    """
    flat = (OPENCV_FROM_HEAD @ rotation).reshape(-1, 3, 3)
    angles = Rotation.from_matrix(flat).as_euler("YXZ")
    return np.asarray(angles.reshape(*rotation.shape[:-2], 3), np.float64)


def pose_terms(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 7): yaw, pitch, roll, yaw², pitch², yaw pitch, yaw³, from angles limited to `BIAS_LIMIT_RAD`."""
    yaw, pitch, roll = np.clip(head_angles(rotation), -BIAS_LIMIT_RAD, BIAS_LIMIT_RAD).T
    return np.stack([yaw, pitch, roll, yaw**2, pitch**2, yaw * pitch, yaw**3], 1)


def load_head_shape(path: Path = ASSET) -> HeadShape:
    """Read the asset.

    Raises:
        ModelError: The file is missing, foreign or damaged.
    """
    checkpoint = load_checkpoint(path, kind="face-analysis", config_cls=FaceAnalysisConfig)
    arrays = {name: tensor.float().numpy() for name, tensor in checkpoint.tensors.items()}
    return HeadShape(
        hash=checkpoint.content_hash,
        neutral=arrays["neutral"],
        expressions=arrays["expressions"],
        expression_names=tuple(checkpoint.metadata["expression_names"].split(",")),
        pose_bias=arrays["pose_bias"],
    )
