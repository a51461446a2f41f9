"""How well a head model's parameters are found again: known ones in, fitted ones out, on the licence-free head.

- `clean_*`, `noisy_*`: a random identity in random poses (yaw +-25, pitch +-12, roll +-8 degrees) with the capture's
  expressions, 75 frames apiece, landmarks exact or with Gaussian noise of 0.5 px (face about 125 px wide). Frames are
  drawn in no order, so the fit has no help from smoothness.
- `capture_*`: the rendered capture's sequences. Their landmarks are projections of ICT-FaceKit's own linear shapes,
  where the head model turns a joint: the error includes what the two kinds of jaw differ by.
- `motion_*`: the capture's motion codes to parameters and back.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.face.flame_layout import (
    METRES_PER_UNIT,
    build_flame_layout,
    ict_regions,
    jaw_motion,
    load_mediapipe_vertices,
)
from model.face.head_models import NUM_MEDIAPIPE, HeadModel
from model.face.head_motion import HeadMotion
from model.face.ict_head import FACE_VERTICES, IctHead
from model.face.landmark_model import LandmarkModel
from model.face.rotations import matrices
from model.face.smplx_fit import FitConfig, HeadFit, PinholeCamera, fit_clip
from model.motion.space import load_motion_space
from model.results import Figure
from model.training.capture_pairs import capture_motion

Array = NDArray[np.float64]
CLIPS, FRAMES = 4, 75
NOISE_PX = 0.5
BETA_SIGMA = 0.8
UPRIGHT = np.diag([1.0, -1.0, -1.0])  # head axes to a frontal camera's
EXACT = FitConfig(expression_step_sigma=None, jaw_step_sigma_rad=None, landmark_sigma_px=0.05)
NOISY = replace(EXACT, landmark_sigma_px=NOISE_PX)
SEED = 2026


@dataclass(frozen=True)
class _Truth:
    """Parameters of a clip."""

    betas: Array
    expression: Array
    jaw: Array
    rotation: Array
    translation: Array


def evaluate_head_fit(ict: Path, capture: Path) -> dict[str, Figure]:
    """All figures. `ict`: ICT-FaceKit; `capture`: folder of the rendered capture.

    Raises:
        DataError: The capture is missing.
    """
    path = capture / "capture.json"
    if not path.is_file():
        raise DataError(f"no capture.json in {capture}")
    about = json.loads(path.read_text())
    head, vertices = IctHead.load(ict), load_mediapipe_vertices()
    regions = ict_regions(vertices)
    model = HeadModel(build_flame_layout(head, regions))
    opened = head.expression_basis(["jawOpen"])[0].astype(np.float64)
    open_rad = jaw_motion(head.neutral.astype(np.float64), opened, regions.lower_teeth).angle
    camera = PinholeCamera(**{name: float(about["camera"][name]) for name in ("fx", "fy", "cx", "cy")})
    figures = _recovered("clean", model, camera, about, open_rad, 0.0, EXACT)
    figures |= _recovered("noisy", model, camera, about, open_rad, NOISE_PX, NOISY)
    figures |= _capture_figures(model, camera, head.subset(vertices), about, open_rad)
    return figures | _motion_figures(model, ict, capture)


def _recovered(
    name: str,
    model: HeadModel,
    camera: PinholeCamera,
    about: dict[str, Any],
    open_rad: float,
    noise_px: float,
    config: FitConfig,
) -> dict[str, Figure]:
    rng = np.random.default_rng(SEED)
    points = model.landmark_model()
    errors: dict[str, list[Array]] = {}
    for _ in range(CLIPS):
        truth = _random_truth(model, about, open_rad, rng)
        seen = _project(points, truth, camera)
        seen += noise_px * rng.normal(size=seen.shape)
        for key, values in _errors(model, points, truth, fit_clip(model, seen, camera, config)).items():
            errors.setdefault(key, []).append(values)
    return {f"{name}_{key}": _figure(key, np.concatenate(values)) for key, values in errors.items()}


def _figure(key: str, values: Array) -> Figure:
    return Figure(value=float(np.sqrt((values**2).mean())), unit=key.rsplit("_", 1)[1], better="lower")


def _random_truth(model: HeadModel, about: dict[str, Any], open_rad: float, rng: np.random.Generator) -> _Truth:
    frames = [about["frames"][i] for i in rng.choice(len(about["frames"]), FRAMES, replace=False)]
    expression, jaw = _capture_parameters(model, frames, about["coeff_names"], open_rad)
    yaw, pitch, roll = np.deg2rad(rng.uniform(-1.0, 1.0, (3, FRAMES)) * np.array([[25.0], [12.0], [8.0]]))
    turned = matrices(yaw[:, None] * [0.0, 1.0, 0.0]) @ matrices(pitch[:, None] * [1.0, 0.0, 0.0])
    turned = UPRIGHT @ turned @ matrices(roll[:, None] * [0.0, 0.0, 1.0])
    shift = np.stack([*rng.uniform(-0.02, 0.02, (2, FRAMES)), rng.uniform(0.66, 0.78, FRAMES)], 1)
    betas = rng.normal(0.0, BETA_SIGMA, model.num_betas)
    return _Truth(betas, expression, jaw, turned, shift)


def _capture_parameters(
    model: HeadModel, frames: list[dict[str, Any]], names: list[str], open_rad: float
) -> tuple[Array, Array]:
    """The capture's coefficients as expression (T, E) and jaw (T, 3)."""
    coefficients = np.array([frame["coeff"] for frame in frames])
    expression, jaw = np.zeros((len(frames), model.num_expressions)), np.zeros((len(frames), 3))
    for column, name in enumerate(names):
        if name == "jawOpen":
            jaw[:, 0] = open_rad * coefficients[:, column]
        else:
            expression[:, model.expression_names.index(name)] = coefficients[:, column]
    return expression, jaw


def _project(points: LandmarkModel, truth: _Truth, camera: PinholeCamera) -> Array:
    """Pixels (T, 478, 2) of the model's landmarks; NaN where it has none."""
    head = points.points(truth.betas, truth.expression, truth.jaw)
    out = np.full((len(head), NUM_MEDIAPIPE, 2), np.nan)
    out[:, points.numbers] = _pixels(head, truth.rotation, truth.translation, camera)
    return out


def _pixels(head: Array, rotation: Array, translation: Array, camera: PinholeCamera) -> Array:
    placed = np.einsum("tij,tlj->tli", rotation, head) + translation[:, None]
    seen = placed @ camera.matrix().T
    return np.asarray(seen[..., :2] / seen[..., 2:])


def _errors(model: HeadModel, points: LandmarkModel, truth: _Truth, fit: HeadFit) -> dict[str, Array]:
    """Errors of every frame (or vertex); the name's last part is the unit."""
    zero, closed = np.zeros_like(truth.expression[:1]), np.zeros((1, 3))
    moved = points.points(fit.betas, fit.expression, fit.jaw_pose) - points.points(fit.betas, zero, closed)
    wanted = points.points(truth.betas, truth.expression, truth.jaw) - points.points(truth.betas, zero, closed)
    shape = model.head.identity_dirs[:FACE_VERTICES].astype(np.float64) @ (fit.betas - truth.betas)
    return {
        "jaw_angle_deg": np.rad2deg(fit.jaw_pose[:, 0] - truth.jaw[:, 0]),
        "expression_landmark_mm": 1e3 * np.linalg.norm(moved - wanted, axis=2).ravel(),
        "rotation_deg": _angles_deg(fit.rotation, truth.rotation),
        "distance_mm": 1e3 * (fit.translation - truth.translation)[:, 2],
        "shape_vertex_mm": 1e3 * np.linalg.norm(shape, axis=1),
        "reprojection_px": fit.reprojection_px,
    }


def _angles_deg(found: Array, wanted: Array) -> Array:
    """Angle between rotations (T, 3, 3)."""
    cosine = (np.einsum("tij,tij->t", found, wanted) - 1) / 2
    return np.asarray(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))), np.float64)


def _capture_figures(
    model: HeadModel, camera: PinholeCamera, landmarks: IctHead, about: dict[str, Any], open_rad: float
) -> dict[str, Figure]:
    """The three rendered sequences from their true 2-D landmarks; `landmarks`: ICT's head at MediaPipe's points."""
    frames = [frame for frame in about["frames"] if frame["split"] == "sequence"]
    jaw, rotation, error, seconds = [], [], [], []
    for sequence in about["sequences"]:
        part = frames[sequence["first_index"] :][: sequence["count"]]
        head = landmarks.shape(about["identity_weights"])
        head = head + np.tensordot(
            np.array([frame["coeff"] for frame in part], np.float32),
            landmarks.expression_basis(about["coeff_names"]),
            1,
        )
        to_camera = np.stack([np.linalg.inv(frame["cam_to_world"]) @ np.array(frame["head_matrix"]) for frame in part])
        seen = _pixels(
            METRES_PER_UNIT * head.astype(np.float64),
            to_camera[:, :3, :3],
            METRES_PER_UNIT * to_camera[:, :3, 3],
            camera,
        )
        began = time.perf_counter()
        fit = fit_clip(model, seen, camera)
        seconds.append(time.perf_counter() - began)
        _, true_jaw = _capture_parameters(model, part, about["coeff_names"], open_rad)
        jaw.append(np.rad2deg(fit.jaw_pose[:, 0] - true_jaw[:, 0]))
        rotation.append(_angles_deg(fit.rotation, to_camera[:, :3, :3]))
        error.append(fit.reprojection_px)
    return {
        "capture_jaw_angle_deg": _figure("jaw_deg", np.concatenate(jaw)),
        "capture_rotation_deg": _figure("rotation_deg", np.concatenate(rotation)),
        "capture_reprojection_px": _figure("reprojection_px", np.concatenate(error)),
        "capture_seconds_per_75_frames": Figure(value=float(np.median(seconds)), unit="s", better="lower"),
    }


def _motion_figures(model: HeadModel, ict: Path, capture: Path) -> dict[str, Figure]:
    space = load_motion_space()
    motion = capture_motion(ict, capture)
    head = HeadMotion(model, space)
    parameters = head.from_motion(motion)
    wrong = (head.to_motion(parameters.expression, parameters.jaw_pose) - motion).astype(np.float64)
    opening = space.lip_opening(motion + wrong.astype(np.float32)) - space.lip_opening(motion)
    return {
        "motion_mouth_code_rms": _figure("motion_std", wrong[:, :16]),
        "motion_mouth_code_worst": Figure(value=float(np.abs(wrong[:, :16]).max()), unit="std", better="lower"),
        "motion_brow_code_worst": Figure(value=float(np.abs(wrong[:, 16:20]).max()), unit="io/10", better="lower"),
        "motion_lid_code_worst": Figure(value=float(np.abs(wrong[:, 20:22]).max()), unit="1", better="lower"),
        "motion_lip_opening_worst": Figure(value=float(np.abs(opening).max()), unit="io", better="lower"),
    }
