"""Build the frozen motion space (design 3.2): one basis over ICT-FaceKit identities and expressions and real video.

Half of the variance that the principal components see comes from ICT heads (many identities, the capture's
expressions and single shapes), half from tracked real speech. Run once; the result is committed and frozen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import save_checkpoint
from model.data.features import load_clips
from model.errors import DataError
from model.face.ict_head import IctHead
from model.face.measure import brow_codes, motion_from_points
from model.face.pose_free import align_to_template, image_to_head_axes, inter_ocular, neutral_face
from model.motion.arkit import ARKIT_NAMES, arkit_from_ict, direct_arkit_rows
from model.motion.face_points import LOWER_LIP_INNER, MOUTH, UPPER_LIP_INNER
from model.motion.space import ASSET, MotionSpace, MotionSpaceConfig

Array = NDArray[np.float32]


@dataclass(frozen=True)
class CaptureMotion:
    """What the builder takes from a rendered capture: its expressions, and where its base expression lies."""

    names: tuple[str, ...]
    coefficients: Array  # (F, K)
    base: Array  # (K,)
    identity: Array  # (100,)

    @classmethod
    def load(cls, capture: Path) -> CaptureMotion:
        """Read capture.json; DataError when it is missing."""
        path = capture / "capture.json"
        if not path.is_file():
            raise DataError(f"no capture.json in {capture}")
        data = json.loads(path.read_text())
        names = tuple(data["coeff_names"])
        base = np.array([data["coeff_base"].get(n, 0.0) for n in names], np.float32)
        coefficients = np.array([f["coeff"] for f in data["frames"]], np.float32)
        return cls(names, coefficients, base, np.array(data["identity_weights"], np.float32))


def build_motion_space(ict: Path, capture: Path, grid: Path, vertices: NDArray[np.int64], out: Path = ASSET) -> str:
    """Fit basis, ranges and ARKit map and write the asset; returns its hash.

    Args:
        ict: ICT-FaceKit npz.
        capture: Folder of the rendered capture.
        grid: Folder of prepared GRID clips (train).
        vertices: (478,) ICT vertex under each MediaPipe landmark.
    """
    config = MotionSpaceConfig()
    head = IctHead.load(ict).subset(vertices)
    motion = CaptureMotion.load(capture)
    ict_delta = _ict_displacements(head, motion, config)
    template = _template(head)
    real = real_displacements(grid, template)
    basis, encoder = _principal_codes([ict_delta, real], config)
    tensors = {"basis": basis, "encoder": encoder, "template": template}
    space = _draft_space(tensors)
    ict_motion = _delta_codes(ict_delta, space)
    real_motion = _delta_codes(real, space)
    both = np.concatenate([ict_motion, real_motion])
    tensors["low"], tensors["high"] = _ranges(both)
    tensors["arkit_matrix"] = _fit_arkit(head, motion, space)
    gap = template[UPPER_LIP_INNER, 1] - template[LOWER_LIP_INNER, 1]
    tensors["closed_gap"] = np.array([gap], np.float32)
    tensors["ict_vertices"] = vertices.astype(np.int32)
    return save_checkpoint(
        out,
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()},
        kind="motion-space",
        config=config,
        metadata={"arkit_names": ",".join(ARKIT_NAMES), "data": "ICT-FaceKit (MIT), GRID s1 (CC BY 4.0)"},
    )


def ict_motion(head: IctHead, motion: CaptureMotion, space: MotionSpace) -> Array:
    """Motion (F, 32) of every frame of a capture from its coefficients; lids from the mesh, gaze left 0."""
    points = _ict_points(head, motion.identity, motion.coefficients, motion.names)
    neutral = _ict_points(head, motion.identity, motion.base[None], motion.names)[0]
    return motion_from_points(points, neutral, space)


def real_displacements(grid: Path, template: Array) -> Array:
    """Neutral-subtracted points (F, 478, 3) of all prepared clips of one speaker."""
    aligned = [align_to_template(image_to_head_axes(c.landmarks), template) for c in load_clips(grid)]
    points = np.concatenate(aligned)
    return (points - neutral_face(points)).astype(np.float32)


def _ict_points(head: IctHead, identity: Array, coefficients: Array, names: tuple[str, ...]) -> Array:
    shape = head.shape(identity.tolist())
    points = shape + np.tensordot(coefficients, head.expression_basis(names), 1)
    return (points / inter_ocular(shape)).astype(np.float32)


def _template(head: IctHead) -> Array:
    """Mean ICT face at the landmarks, in inter-ocular units, centred between the eyes."""
    points = head.neutral / inter_ocular(head.neutral)
    return np.asarray(points - points[[33, 133, 362, 263]].mean(0), np.float32)


def _ict_displacements(head: IctHead, motion: CaptureMotion, config: MotionSpaceConfig) -> Array:
    rng = np.random.default_rng(config.seed)
    single = np.eye(len(motion.names), dtype=np.float32) * 0.6
    mouth_names = [i for i, n in enumerate(motion.names) if n.startswith(("mouth", "jaw", "cheek", "nose"))]
    parts = []
    for _ in range(config.identities):
        identity = rng.normal(0.0, 0.8, len(head.identities)).astype(np.float32)
        rows = motion.coefficients[rng.choice(len(motion.coefficients), 60, replace=False)]
        extra = single[rng.choice(mouth_names, 6, replace=False)] + motion.base
        coefficients = np.concatenate([rows, extra])
        neutral = _ict_points(head, identity, motion.base[None], motion.names)
        parts.append(_ict_points(head, identity, coefficients, motion.names) - neutral)
    return np.concatenate(parts)


def _principal_codes(groups: list[Array], config: MotionSpaceConfig) -> tuple[Array, Array]:
    """Whitened components of the pooled covariance; (16, D) basis and (D, 16) encoder."""
    weight = np.tile([1.0, 1.0, config.depth_weight], len(MOUTH)).astype(np.float64)
    pooled = np.zeros((len(weight), len(weight)))
    for delta in groups:
        flat = delta[:, list(MOUTH)].reshape(len(delta), -1).astype(np.float64) * weight
        second_moment = flat.T @ flat / len(flat)  # about the neutral face, which must stay at zero
        pooled += second_moment / np.trace(second_moment) / len(groups)
    real = groups[-1][:, list(MOUTH)].reshape(len(groups[-1]), -1).astype(np.float64) * weight
    scale = np.trace(real.T @ real / len(real))
    values, vectors = np.linalg.eigh(pooled * scale)
    order = np.argsort(values)[::-1][: config.num_mouth_codes]
    deviation, directions = np.sqrt(values[order]), vectors[:, order]
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), range(len(order))])
    basis = (directions * deviation / weight[:, None]).T
    encoder = weight[:, None] * directions / deviation
    return basis.astype(np.float32), encoder.astype(np.float32)


def _draft_space(tensors: dict[str, Array]) -> MotionSpace:
    zeros = np.zeros(32, np.float32)
    return MotionSpace(
        hash="draft",
        basis=tensors["basis"],
        encoder=tensors["encoder"],
        template=tensors["template"],
        low=zeros,
        high=zeros,
        arkit_matrix=np.zeros((52, 32), np.float32),
        arkit_names=ARKIT_NAMES,
        closed_gap=0.0,
    )


def _delta_codes(delta: Array, space: MotionSpace) -> Array:
    out = np.zeros((len(delta), 32), np.float32)
    out[:, :16] = delta[:, list(MOUTH)].reshape(len(delta), -1) @ space.encoder
    out[:, 16:20] = brow_codes(delta)
    return out


def _ranges(motion: Array) -> tuple[Array, Array]:
    low, high = np.quantile(motion, [0.001, 0.999], axis=0).astype(np.float32)
    low[20:22], high[20:22] = -0.5, 1.0
    low[22:24], high[22:24] = -0.6, 0.6
    return low, high


def _fit_arkit(head: IctHead, motion: CaptureMotion, space: MotionSpace, *, ridge: float = 30.0) -> Array:
    """(52, 32) map; mouth and brow rows by ridge regression on ICT frames, lids and gaze directly."""
    rng = np.random.default_rng(0)
    single = np.eye(len(motion.names), dtype=np.float32)
    coefficients = np.concatenate([motion.coefficients] + [single * a for a in (0.3, 0.6, 0.9)] * 3)
    identity = rng.normal(0.0, 0.3, len(head.identities)).astype(np.float32)
    points = _ict_points(head, identity, coefficients, motion.names)
    neutral = _ict_points(head, identity, motion.base[None], motion.names)[0]
    codes = motion_from_points(points, neutral, space)
    codes[:, 20:] = 0.0
    target = arkit_from_ict(coefficients, motion.names) - arkit_from_ict(motion.base[None], motion.names)
    gram = codes.T @ codes + ridge * np.eye(32)
    matrix = np.linalg.solve(gram, codes.T @ target).T.astype(np.float32)
    direct, rows = direct_arkit_rows()
    matrix[rows] = direct
    return matrix
