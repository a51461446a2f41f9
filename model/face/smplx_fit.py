"""Fit FLAME or SMPL-X to a clip of tracked landmarks: one identity, and expression, jaw and head pose per frame.

Minimises the robust reprojection error of all landmarks plus Gaussian priors (a maximum a posteriori estimate):

    sum rho(|project(R_t X(betas, e_t, j_t) + t_t) - x_t| / sigma) + |betas|^2 + |e_t / s|^2 + jaw limits
        + |e_t - e_(t-1)|^2 / s_e^2 + |j_t - j_(t-1)|^2 / s_j^2

by Levenberg-Marquardt with exact derivatives (`model.face.landmark_model`) and Huber weights (iteratively reweighted).
The normal equations are block-tridiagonal in the frames and bordered by the shared identity; they are solved exactly.
Every frame starts from PnP on the mean head. All in float64.

Axes: head x to the subject's left, y up, z out of the face, metres; camera OpenCV (x right, y down, z forward).
Image coordinates are the landmarks' own: the camera must use the same pixel origin. Only x and y of the landmarks are
used. One camera cannot tell a large head far away from a small one nearby: the size is the identity prior's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, InputError
from model.face.bordered_solve import BorderedSystem, solve_bordered
from model.face.head_models import NUM_MEDIAPIPE, HeadModel
from model.face.landmark_model import LandmarkModel
from model.face.rotations import cross_matrices, matrices
from model.motion.face_points import RIGID

Array = NDArray[np.float64]
MIN_POINTS = 12  # per frame; fewer say too little about pose and expression together
POSE = 6  # rotation and translation, last in a frame's parameters
JAW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PinholeCamera:
    """`u = fx x / z + cx`, `v = fy y / z + cy`, pixels; OpenCV axes."""

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.fx <= 0 or self.fy <= 0:
            raise ConfigError(f"focal lengths must be positive, got {self.fx}, {self.fy}")

    def matrix(self) -> Array:
        """(3, 3)."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Priors and effort. Sigmas are standard deviations."""

    num_betas: int = 100
    num_expressions: int = 100
    landmark_sigma_px: float = 1.0
    huber_sigmas: float = 3.0  # residuals beyond count linearly
    beta_sigma: float = 1.0
    expression_sigma: float = 1.0  # in the model's own scale (`expression_scale`)
    jaw_sigma_rad: float = 0.5  # opening
    jaw_sideways_sigma_rad: float = 0.02  # turning and rolling
    jaw_limits_rad: tuple[float, float] = (-0.02, 0.6)
    jaw_limit_sigma_rad: float = 0.01
    expression_step_sigma: float | None = 0.5  # between neighbouring frames, in the model's scale; None: independent
    jaw_step_sigma_rad: float | None = 0.1
    max_iterations: int = 40
    tolerance: float = 1e-5  # relative decrease of the cost that ends the search

    def __post_init__(self) -> None:
        if min(self.landmark_sigma_px, self.beta_sigma, self.expression_sigma, self.jaw_sigma_rad) <= 0:
            raise ConfigError("sigmas of a fit must be positive")
        if not self.jaw_limits_rad[0] < self.jaw_limits_rad[1]:
            raise ConfigError(f"jaw limits must rise, got {self.jaw_limits_rad}")


@dataclass(frozen=True)
class HeadFit:
    """What a clip says about a head. Frames without enough landmarks are NaN."""

    betas: Array  # (B,)
    expression: Array  # (T, E)
    jaw_pose: Array  # (T, 3) rotation vectors, radians; x > 0 opens
    rotation: Array  # (T, 3, 3): camera = rotation @ head + translation
    translation: Array  # (T, 3) metres
    reprojection_px: Array  # (T,) root mean square over the landmarks


@dataclass(frozen=True)
class _State:
    betas: Array
    expression: Array
    jaw: Array
    rotation: Array
    translation: Array


@dataclass(frozen=True)
class _Problem:
    model: LandmarkModel
    camera: PinholeCamera
    config: FitConfig
    expression_sigma: float
    observed: Array  # (T, L, 2)
    seen: NDArray[np.bool_]  # (T, L): which of them are there
    gaps: Array  # (T - 1,): frames from each one to the next that is used


def fit_clip(
    model: HeadModel,
    landmarks_px: NDArray[np.floating],  # (T, 478, 2 or 3); NaN where a frame or a landmark was not seen
    camera: PinholeCamera,
    config: FitConfig | None = None,
) -> HeadFit:
    """Fit one clip of one person.

    Raises:
        InputError: The landmarks have another shape, or no frame has enough of them.
    """
    config = config or FitConfig()
    if landmarks_px.ndim != 3 or landmarks_px.shape[1] != NUM_MEDIAPIPE or landmarks_px.shape[2] not in (2, 3):
        raise InputError(f"landmarks have shape {landmarks_px.shape}, wanted (frames, {NUM_MEDIAPIPE}, 2 or 3)")
    points = model.landmark_model(num_betas=config.num_betas, num_expressions=config.num_expressions)
    observed = np.asarray(landmarks_px[:, points.numbers, :2], np.float64)
    seen = np.asarray(np.isfinite(observed).all(2))
    used = np.flatnonzero(seen.sum(1) >= MIN_POINTS)
    if not len(used):
        raise InputError(f"none of {len(observed)} frames has {MIN_POINTS} landmarks; is there a face in the clip?")
    problem = _Problem(
        points,
        camera,
        config,
        config.expression_sigma * model.head.about.expression_scale,
        np.where(seen[used, :, None], observed[used], 0.0),
        seen[used],
        np.diff(used).astype(np.float64),
    )
    state = _minimise(problem, _start(problem))
    return _as_fit(problem, state, used, len(observed))


def _start(problem: _Problem) -> _State:
    """The mean head with closed lips, each frame placed by PnP (SQPnP on the points that speech moves least)."""
    import cv2

    model, frames = problem.model, len(problem.observed)
    betas, expression, jaw = (
        np.zeros(model.num_betas),
        np.zeros((frames, model.num_expressions)),
        np.zeros((frames, JAW)),
    )
    mean = model.points(betas, expression[:1], jaw[:1])[0]
    rotation, translation = np.zeros((frames, 3, 3)), np.zeros((frames, 3))
    still = np.isin(model.numbers, RIGID)
    for index, (points, there) in enumerate(zip(problem.observed, problem.seen, strict=True)):
        chosen = there & still if (there & still).sum() >= MIN_POINTS else there
        found, vector, shift = cv2.solvePnP(
            mean[chosen], points[chosen], problem.camera.matrix(), None, flags=cv2.SOLVEPNP_SQPNP
        )
        if not found:
            raise InputError(f"frame {index}: no head pose explains its {chosen.sum()} landmarks; check the camera")
        rotation[index] = matrices(np.asarray(vector, np.float64).reshape(1, 3))[0]
        translation[index] = np.asarray(shift, np.float64).reshape(3)
    return _State(betas, expression, jaw, rotation, translation)


def _minimise(problem: _Problem, state: _State) -> _State:
    damping, config = 1e-3, problem.config
    cost = _cost(problem, state)
    for _ in range(config.max_iterations):
        system, improved = _normal_equations(problem, state), False
        while not improved and damping < 1e8:
            step = solve_bordered(system, damping)
            trial = _moved(state, *step)
            trial_cost = _cost(problem, trial)
            improved = trial_cost < cost
            damping = max(damping / 5, 1e-9) if improved else damping * 10
        if not improved:
            break
        decrease, cost, state = 1 - trial_cost / max(cost, 1e-300), trial_cost, trial
        if decrease < config.tolerance:
            break
    return state


def _residuals(problem: _Problem, points: Array, state: _State) -> tuple[Array, Array]:
    """Camera points (T, L, 3) and residuals (T, L, 2) in sigmas, 0 where nothing was seen."""
    camera = problem.camera
    placed = np.einsum("tij,tlj->tli", state.rotation, points) + state.translation[:, None]
    depth = np.maximum(placed[:, :, 2], 1e-3)  # a step that puts a point behind the camera costs, and is refused
    u = camera.fx * placed[:, :, 0] / depth + camera.cx
    v = camera.fy * placed[:, :, 1] / depth + camera.cy
    residuals = (np.stack([u, v], 2) - problem.observed) / problem.config.landmark_sigma_px
    return placed, residuals * problem.seen[:, :, None]


def _cost(problem: _Problem, state: _State) -> float:
    points = problem.model.points(state.betas, state.expression, state.jaw)
    _, residuals = _residuals(problem, points, state)
    size = np.linalg.norm(residuals, axis=2)
    limit = problem.config.huber_sigmas
    robust = np.where(size <= limit, size**2, 2 * limit * size - limit**2).sum()
    prior, _, over, jaw_sigma = _frame_priors(problem, state)
    cost = robust + (prior**2).sum() + (over**2).sum() + ((state.jaw / jaw_sigma) ** 2).sum()
    cost += ((state.betas / problem.config.beta_sigma) ** 2).sum()
    steps = np.diff(np.concatenate([state.expression, state.jaw], 1), axis=0)
    return float(cost + (steps**2 * _link_weights(problem)).sum())


def _frame_priors(problem: _Problem, state: _State) -> tuple[Array, Array, Array, Array]:
    """Expression in sigmas (T, E); is the jaw past a limit (T,), by how many sigmas (T,); the jaw's sigmas (3,)."""
    config = problem.config
    past = state.jaw[:, 0] - np.clip(state.jaw[:, 0], *config.jaw_limits_rad)
    sigma = np.array([config.jaw_sigma_rad, config.jaw_sideways_sigma_rad, config.jaw_sideways_sigma_rad])
    return (
        state.expression / problem.expression_sigma,
        np.asarray(past != 0),
        past / config.jaw_limit_sigma_rad,
        sigma,
    )


def _link_weights(problem: _Problem) -> Array:
    """(T - 1, E + 3): inverse variance of the step from one used frame to the next; a longer gap allows more."""
    config, expressions = problem.config, problem.model.num_expressions
    weights = np.zeros(expressions + JAW)
    if config.expression_step_sigma is not None:
        scale = problem.expression_sigma / config.expression_sigma
        weights[:expressions] = 1 / (config.expression_step_sigma * scale) ** 2
    if config.jaw_step_sigma_rad is not None:
        weights[expressions:] = 1 / config.jaw_step_sigma_rad**2
    return weights / problem.gaps[:, None]


def _normal_equations(problem: _Problem, state: _State) -> BorderedSystem:
    """Gauss-Newton system of a state: data, then priors."""
    frame, shared, error = _weighted_slopes(problem, state)
    across = frame.transpose(0, 2, 1)
    blocks, border = across @ frame, across @ shared
    corner = np.tensordot(shared, shared, ([0, 1], [0, 1]))
    frame_gradient = (across @ error)[:, :, 0]
    shared_gradient = np.tensordot(shared, error[:, :, 0], ([0, 1], [0, 1]))
    links = _add_priors(problem, state, blocks, corner, frame_gradient, shared_gradient)
    return BorderedSystem(blocks, links, border, corner, frame_gradient, shared_gradient)


def _weighted_slopes(problem: _Problem, state: _State) -> tuple[Array, Array, Array]:
    """Derivatives by the frames' unknowns (T, 2 L, P), by the identity (T, 2 L, B), and residuals (T, 2 L, 1)."""
    model, config = problem.model, problem.config
    points, by_coefficients, by_jaw = model.jacobians(state.betas, state.expression, state.jaw)
    placed, residuals = _residuals(problem, points, state)
    size = np.linalg.norm(residuals, axis=2)
    root = np.sqrt(np.minimum(1.0, config.huber_sigmas / np.maximum(size, 1e-12))) * problem.seen
    project = _projection_slope(problem.camera, placed) * (root[:, :, None, None] / config.landmark_sigma_px)
    in_head = np.einsum("tlij,tjk->tlik", project, state.rotation)
    turned = placed - state.translation[:, None]
    frame = np.concatenate(
        [
            in_head @ by_coefficients[..., model.num_betas :],
            in_head @ by_jaw,
            -project @ cross_matrices(turned),  # the head is turned from the left: in camera axes, about its origin
            project,
        ],
        3,
    )
    shared = in_head @ by_coefficients[..., : model.num_betas]
    frames = len(frame)
    return (
        frame.reshape(frames, -1, frame.shape[3]),
        shared.reshape(frames, -1, model.num_betas),
        (residuals * root[:, :, None]).reshape(frames, -1, 1),
    )


def _add_priors(
    problem: _Problem, state: _State, blocks: Array, corner: Array, frame_gradient: Array, shared_gradient: Array
) -> Array:
    """Add the priors to the system in place; returns the links (T - 1, P) between neighbouring frames."""
    config = problem.config
    prior, past, over, jaw_sigma = _frame_priors(problem, state)
    expressions = prior.shape[1]
    size = expressions + JAW
    diagonal = np.concatenate([np.full(expressions, problem.expression_sigma), jaw_sigma]) ** -2.0
    values = np.concatenate([state.expression, state.jaw], 1)
    curvature = np.zeros((len(values), blocks.shape[1]))
    curvature[:, :size] = diagonal
    curvature[:, expressions] += past / config.jaw_limit_sigma_rad**2
    frame_gradient[:, :size] += diagonal * values
    frame_gradient[:, expressions] += over / config.jaw_limit_sigma_rad
    links = np.zeros((len(problem.gaps), blocks.shape[1]))
    links[:, :size] = _link_weights(problem)
    pull = links[:, :size] * np.diff(values, axis=0)
    frame_gradient[1:, :size] += pull
    frame_gradient[:-1, :size] -= pull
    curvature[1:] += links
    curvature[:-1] += links
    index = np.arange(blocks.shape[1])
    blocks[:, index, index] += curvature
    corner[np.diag_indices(len(corner))] += config.beta_sigma**-2.0
    shared_gradient += state.betas / config.beta_sigma**2
    return links


def _projection_slope(camera: PinholeCamera, placed: Array) -> Array:
    """d(u, v) / d(x, y, z), (T, L, 2, 3)."""
    x, y = placed[..., 0], placed[..., 1]
    z = np.maximum(placed[..., 2], 1e-3)
    zero = np.zeros_like(z)
    u = np.stack([camera.fx / z, zero, -camera.fx * x / z**2], -1)
    v = np.stack([zero, camera.fy / z, -camera.fy * y / z**2], -1)
    return np.stack([u, v], -2)


def _moved(state: _State, frame_step: Array, shared_step: Array) -> _State:
    expressions = state.expression.shape[1]
    turn = frame_step[:, -POSE:-JAW]
    return _State(
        state.betas + shared_step,
        state.expression + frame_step[:, :expressions],
        state.jaw + frame_step[:, expressions : expressions + JAW],
        matrices(turn) @ state.rotation,
        state.translation + frame_step[:, -JAW:],
    )


def _as_fit(problem: _Problem, state: _State, used: NDArray[np.int64], frames: int) -> HeadFit:
    points = problem.model.points(state.betas, state.expression, state.jaw)
    _, residuals = _residuals(problem, points, state)
    squared = (residuals**2).sum(2) * problem.config.landmark_sigma_px**2
    error = np.sqrt(squared.sum(1) / problem.seen.sum(1))

    def spread(values: Array) -> Array:
        out = np.full((frames, *values.shape[1:]), np.nan)
        out[used] = values
        return out

    return HeadFit(
        state.betas,
        spread(state.expression),
        spread(state.jaw),
        spread(state.rotation),
        spread(state.translation),
        spread(error),
    )
