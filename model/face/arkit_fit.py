"""The 52 ARKit coefficients of tracked landmarks: the most likely weights of ICT-FaceKit's shapes (offline).

The motion space exports ARKit by a linear map, which is right for generated motion but multiplies tracking noise (on
the rendered capture jawOpen r 0.84). Here each frame is explained by expression weights between 0 and 1 with a normal
prior, plus a small rigid movement, so that an error of the head pose does not become an open jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.face.calibration import SpeakerCalibration
from model.face.head_shape import HeadShape
from model.face.measure import gaze_codes, lid_codes
from model.motion.arkit import arkit_from_ict, direct_arkit_rows

Float64 = NDArray[np.float64]
NUM_POINTS = 468  # irises have no part in it


@dataclass(frozen=True, slots=True, kw_only=True)
class ArkitFitConfig:
    """Standard deviations of what is fitted and of what disturbs it."""

    weight_sigma: float = 0.25
    noise: float = 0.13  # inter-ocular units; as if landmarks erred alone, though they err together: hence large
    depth_trust: float = 0.1  # precision of depth over that of height and width
    rotation_sigma_deg: float = 1.0
    shift_sigma: float = 0.02  # inter-ocular units
    scale_sigma: float = 0.02
    iterations: int = 100


def fit_arkit(
    points: NDArray[np.float32],
    calibration: SpeakerCalibration,
    shape: HeadShape,
    config: ArkitFitConfig | None = None,
) -> NDArray[np.float32]:
    """ARKit coefficients (T, 52), 0..1, of canonical points (T, 478, 3) of a calibrated speaker.

    Blinks and gaze are measured directly (`model.face.measure`), all others fitted; tongueOut stays 0.
    """
    settings = config or ArkitFitConfig()
    gain = np.float32(calibration.gain)
    moved, neutral = points * gain, calibration.neutral * gain
    names = [n for n in shape.expression_names if not n.startswith(("eyeLook", "eyeBlink"))]
    basis = shape.expressions[[shape.expression_names.index(n) for n in names]] / shape.inter_ocular_cm
    weights = _fit_weights((moved - neutral)[:, :NUM_POINTS], neutral[:NUM_POINTS], basis[:, :NUM_POINTS], settings)
    out = arkit_from_ict(weights.astype(np.float32), names)
    codes = np.zeros((len(points), 32), np.float32)
    codes[:, 20:22] = lid_codes(moved, neutral)
    codes[:, 22:24] = gaze_codes(moved, neutral)
    rows, columns = direct_arkit_rows()
    out[:, columns] = codes @ rows.T
    return np.asarray(np.clip(out, 0.0, 1.0), np.float32)


def _fit_weights(
    displacement: NDArray[np.float32],  # (T, N, 3)
    neutral: NDArray[np.float32],  # (N, 3)
    basis: NDArray[np.float32],  # (E, N, 3)
    config: ArkitFitConfig,
) -> Float64:
    """Most likely weights (T, E) in 0..1: ridge regression with box bounds by accelerated projected gradient steps."""
    count = len(basis)
    unknowns = np.concatenate([basis * config.weight_sigma, _rigid_movements(neutral, config)]).astype(np.float64)
    precision = np.array([1.0, 1.0, config.depth_trust]) / config.noise
    design = (unknowns * precision).reshape(len(unknowns), -1)
    target = (displacement.astype(np.float64) * precision).reshape(len(displacement), -1)
    normal = design @ design.T + np.eye(len(design))
    gradient = target @ design.T
    solution = np.linalg.solve(normal, gradient.T).T
    step = 1.0 / float(np.linalg.eigvalsh(normal)[-1])
    ahead, momentum = solution, 1.0
    for _ in range(config.iterations):
        moved = ahead - step * (ahead @ normal - gradient)
        moved[:, :count] = np.clip(moved[:, :count], 0.0, 1.0 / config.weight_sigma)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, solution, momentum = moved + (momentum - 1) / faster * (moved - solution), moved, faster
    return np.asarray(solution[:, :count] * config.weight_sigma, np.float64)


def _rigid_movements(neutral: NDArray[np.float32], config: ArkitFitConfig) -> Float64:
    """(7, N, 3): one standard deviation each of three rotations, three shifts and the scale."""
    axes = np.eye(3)
    turns = [np.cross(axis, neutral) * np.radians(config.rotation_sigma_deg) for axis in axes]
    shifts = [np.broadcast_to(axis, neutral.shape) * config.shift_sigma for axis in axes]
    return np.array([*turns, *shifts, neutral * config.scale_sigma], np.float64)
