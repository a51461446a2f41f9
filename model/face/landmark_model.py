"""Landmarks of FLAME and SMPL-X in closed form, with exact derivatives: what fitting needs of linear blend skinning.

With root, neck and eyes at rest only the jaw joint turns. A landmark is a weighted sum of its triangle's corners, and
skinning (Loper et al. 2015, Eq. 2-4) becomes, with w a corner's jaw weight, J the jaw joint, R the jaw's rotation and
D its pose directions:

    landmark = sum b (v + D vec(R - I)) + (R - I) sum b w (v + D vec(R - I) - J)

v and J are linear in identity and expression, so five small arrays per landmark replace the mesh: 478 landmarks of 75
frames take milliseconds, and every derivative is a product. `tests/model/face/test_head_models.py` holds it against
the `smplx` package. Float64; metres; head axes (x to the subject's left, y up, z out of the face).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.face.head_files import Embedding, HeadArrays
from model.face.rotations import matrices, matrix_derivatives

Array = NDArray[np.float64]
JAW_JOINT = {"flame": 2, "smplx": 22}


@dataclass(frozen=True)
class LandmarkModel:
    """L landmarks as a function of K = B + E coefficients (identity, then expression) and the jaw's rotation vector."""

    numbers: NDArray[np.int64]  # (L,) which MediaPipe landmark each one is
    num_betas: int
    still: Array  # (L, 3)
    still_dirs: Array  # (L, 3, K)
    turning: Array  # (L, 3): what R - I acts on
    turning_dirs: Array  # (L, 3, K)
    still_pose: Array  # (L, 3, 9)
    turning_pose: Array  # (L, 3, 9)

    def subset(self, rows: NDArray[np.int64]) -> LandmarkModel:
        """The same head with only these landmarks, in this order."""
        return LandmarkModel(
            self.numbers[rows],
            self.num_betas,
            self.still[rows],
            self.still_dirs[rows],
            self.turning[rows],
            self.turning_dirs[rows],
            self.still_pose[rows],
            self.turning_pose[rows],
        )

    @property
    def num_expressions(self) -> int:
        """E."""
        return int(self.still_dirs.shape[2]) - self.num_betas

    def points(self, betas: Array, expression: Array, jaw: Array) -> Array:
        """Landmarks (T, L, 3); betas (B,) shared or (T, B), expression (T, E), jaw (T, 3)."""
        turn = matrices(jaw) - np.eye(3)
        still, turning = self._rest(betas, expression, turn)
        return np.asarray(still + np.einsum("tij,tlj->tli", turn, turning))

    def jacobians(self, betas: Array, expression: Array, jaw: Array) -> tuple[Array, Array, Array]:
        """Points (T, L, 3), their derivative by the coefficients (T, L, 3, K), and by the jaw's vector (T, L, 3, 3)."""
        turn = matrices(jaw) - np.eye(3)
        slope = matrix_derivatives(jaw)
        still, turning = self._rest(betas, expression, turn)
        points = still + np.einsum("tij,tlj->tli", turn, turning)
        by_coefficients = self.still_dirs + np.einsum("tij,ljk->tlik", turn, self.turning_dirs)
        pose_slope = slope.reshape(len(jaw), 9, 3)
        by_jaw = np.einsum("tijk,tlj->tlik", slope, turning)
        by_jaw += np.einsum("lip,tpk->tlik", self.still_pose, pose_slope)
        by_jaw += np.einsum("tij,ljp,tpk->tlik", turn, self.turning_pose, pose_slope, optimize=True)
        return points, by_coefficients, by_jaw

    def _rest(self, betas: Array, expression: Array, turn: Array) -> tuple[Array, Array]:
        flat = turn.reshape(len(turn), 9)
        coefficients = np.concatenate([np.broadcast_to(betas, (len(turn), self.num_betas)), expression], 1)
        still = self.still + np.tensordot(coefficients, self.still_dirs, ([1], [2]))
        turning = self.turning + np.tensordot(coefficients, self.turning_dirs, ([1], [2]))
        still += np.tensordot(flat, self.still_pose, ([1], [2]))
        turning += np.tensordot(flat, self.turning_pose, ([1], [2]))
        return still, turning


def landmark_model(
    head: HeadArrays, embedding: Embedding, numbers: NDArray[np.int64], *, num_betas: int, num_expressions: int
) -> LandmarkModel:
    """Reduce a head to the landmarks of an embedding (L,); `numbers` (L,) names their MediaPipe counterparts."""
    joint = JAW_JOINT[head.about.kind]
    corners = head.faces[embedding.face]  # (L, 3)
    plain = embedding.barycentric
    jaw_share = plain * head.weights[corners, joint]
    dirs = np.concatenate(
        [head.identity_dirs[:, :, :num_betas], head.expression_dirs[:, :, :num_expressions]], 2
    )  # (V, 3, K)
    regressor = head.joint_regressor[joint].astype(np.float64)
    used = np.flatnonzero(regressor)
    jaw = regressor[used] @ head.v_template[used]
    jaw_dirs = np.tensordot(regressor[used], dirs[used], 1)  # (3, K)
    pose = head.posedirs[:, :, 9 * (joint - 1) : 9 * joint]
    total = jaw_share.sum(1)

    def weigh(weights: Array, values: NDArray[np.float32]) -> Array:
        return np.asarray(np.einsum("lc,lc...->l...", weights, values[corners].astype(np.float64)))

    return LandmarkModel(
        numbers=numbers,
        num_betas=num_betas,
        still=weigh(plain, head.v_template),
        still_dirs=weigh(plain, dirs),
        turning=weigh(jaw_share, head.v_template) - total[:, None] * jaw,
        turning_dirs=weigh(jaw_share, dirs) - total[:, None, None] * jaw_dirs,
        still_pose=weigh(plain, pose),
        turning_pose=weigh(jaw_share, pose),
    )
