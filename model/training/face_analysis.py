"""Make the face analysis asset: ICT-FaceKit's mean face and expressions at the landmarks, and the tracker's pose bias.

The bias is fitted on the even half of a capture's training stills: tracked canonical points minus the true
displacement, as a ridge regression on `pose_terms`. Its constant part belongs to the person, not to the tracker, and
is left out. The odd half, the sequences and the novel views stay unseen and measure it (`evaluate faces`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import load_checkpoint, save_checkpoint
from model.data.capture import Capture
from model.face.canonical import canonical_points
from model.face.head_pose import estimate_head_pose
from model.face.head_shape import ASSET, BIAS_TERMS, FaceAnalysisConfig, HeadShape, pose_terms
from model.face.ict_head import IctHead
from model.motion.space import ASSET as MOTION_SPACE
from model.motion.space import MotionSpaceConfig
from model.training.capture_faces import CaptureFaces, capture_faces

FITTED = slice(0, None, 2)  # even frames; the odd ones are for measuring
HELD_OUT = slice(1, None, 2)


def build_face_analysis(ict: Path, capture: Path, task_file: Path, out: Path = ASSET) -> str:
    """Fit the bias and write the asset; returns its hash."""
    head = landmark_head(ict)
    shape = HeadShape(
        "",
        head.neutral,
        head.expressions,
        head.expression_names,
        np.zeros((BIAS_TERMS, *head.neutral.shape), np.float32),
    )
    faces = capture_faces(Capture.open(capture), "train", head, task_file).take(FITTED)
    config = FaceAnalysisConfig(bias_frames=len(faces.rows))
    shape = replace(shape, pose_bias=fit_pose_bias(faces, shape, config))
    tensors = {"neutral": shape.neutral, "expressions": shape.expressions, "pose_bias": shape.pose_bias}
    return save_checkpoint(
        out,
        {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in tensors.items()},
        kind="face-analysis",
        config=config,
        metadata={
            "expression_names": ",".join(shape.expression_names),
            "data": "ICT-FaceKit (MIT, (c) 2020 USC Institute for Creative Technologies), rendered capture",
        },
    )


def landmark_head(ict: Path) -> IctHead:
    """The ICT head reduced to the 478 vertices that the motion space places under the landmarks."""
    vertices = load_checkpoint(MOTION_SPACE, kind="motion-space", config_cls=MotionSpaceConfig).tensors["ict_vertices"]
    return IctHead.load(ict).subset(vertices.numpy().astype(np.int64))


def fit_pose_bias(faces: CaptureFaces, shape: HeadShape, config: FaceAnalysisConfig) -> NDArray[np.float32]:
    """(7, 478, 3) inter-ocular units per pose term."""
    pose = estimate_head_pose(faces.landmarks_px, shape, size=faces.size, intrinsics=faces.intrinsics)
    tracked = canonical_points(faces.landmarks_px, pose, replace(shape, pose_bias=np.zeros_like(shape.pose_bias)))
    true = np.tensordot(faces.coefficients, _basis(shape, faces.coefficient_names), 1) / shape.inter_ocular_cm
    wrong = (tracked - true).reshape(len(tracked), -1).astype(np.float64)
    terms = np.concatenate([np.ones((len(tracked), 1)), pose_terms(pose.frame_rotation)], 1)
    normal = terms.T @ terms + config.bias_ridge * np.eye(terms.shape[1])
    fitted = np.linalg.solve(normal, terms.T @ wrong)[1:]
    return fitted.reshape(BIAS_TERMS, *shape.neutral.shape).astype(np.float32)


def _basis(shape: HeadShape, names: tuple[str, ...]) -> NDArray[np.float32]:
    return shape.expressions[[shape.expression_names.index(n) for n in names]]
