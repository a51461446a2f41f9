"""Between the motion space and a head model's parameters: motion (T, 32) <-> expression (T, E) and jaw (T, 3).

Forward, the head's landmarks are measured as every other source of motion is (`model.face.measure`): displacement from
the identity's neutral face in inter-ocular units, 16 mouth codes by the space's encoder, brows and lids. Backward,
Gauss-Newton finds the least expression and jaw opening that show the wanted codes (ridge: the codes' tolerance against
the expression's usual size). Only the jaw is non-linear, so a few steps suffice. Gaze codes are not a head model's
expression: forward they are 0, backward they are ignored; `carried` says which of the 32 codes a head can show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.head_models import NUM_MEDIAPIPE, HeadModel
from model.face.measure import BROW_UNITS, brow_codes, lid_codes
from model.motion.face_points import BROWS, EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, LIDS_LEFT, LIDS_RIGHT, MOUTH
from model.motion.space import BROW_CODES, LID_CODES, MOTION_SIZE, MOUTH_CODES, MotionSpace, check_motion

Array = NDArray[np.float64]
CORNERS = (*EYE_CORNERS_RIGHT, *EYE_CORNERS_LEFT)
LIDS = ((LIDS_LEFT, EYE_CORNERS_LEFT), (LIDS_RIGHT, EYE_CORNERS_RIGHT))
MIN_MOUTH_LANDMARKS = 20  # the lips' own
PARTIAL_NOISE = 0.01  # inter-ocular units
STEPS = 6
CHUNK_FRAMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionTolerance:
    """What the backward map weighs: exact codes against small parameters (standard deviations)."""

    code: float = 0.02
    expression: float = 1.0  # in the model's own scale
    jaw_rad: float = 0.15


@dataclass(frozen=True)
class HeadParameters:
    """What a head model is driven with."""

    expression: Array  # (T, E)
    jaw_pose: Array  # (T, 3), only x is used; radians


class HeadMotion:
    """The map of one head and one identity. Immutable."""

    def __init__(self, model: HeadModel, space: MotionSpace, *, betas: Array | None = None) -> None:
        """Measure the identity's neutral face.

        Args:
            model: A head with MediaPipe landmarks: at least the eye corners and the lips.
            space: The motion space.
            betas: Identity (B,); the mean head when left out.

        Raises:
            InputError: The head lacks those landmarks.
        """
        count = None if betas is None else len(betas)
        full = model.landmark_model(num_betas=count)
        wanted = [*CORNERS, *MOUTH, *(p for part in BROWS.values() for p in part), *_lid_points()]
        rows = np.flatnonzero(np.isin(full.numbers, wanted))
        self._model = full.subset(rows)
        self._there = np.zeros(NUM_MEDIAPIPE, np.bool_)
        self._there[self._model.numbers] = True
        mouth = self._there[list(MOUTH)]
        if not self._there[list(CORNERS)].all() or mouth.sum() < MIN_MOUTH_LANDMARKS:
            raise InputError(
                f"this head has {mouth.sum()} of {len(MOUTH)} mouth landmarks; motion needs lips and eye corners"
            )
        self._betas = np.zeros(self._model.num_betas) if betas is None else np.asarray(betas, np.float64)
        self._scale = model.head.about.expression_scale
        still = np.zeros((1, 3))
        rest = self._model.points(self._betas, np.zeros((1, self._model.num_expressions)), still)[0]
        corner = [rest[np.flatnonzero(self._model.numbers == number)[0]] for number in CORNERS]
        self._inter_ocular = float(np.linalg.norm((corner[2] + corner[3] - corner[0] - corner[1]) / 2))
        self._neutral = self._spread(rest[None])[0]
        self._encoder = _mouth_encoder(space, mouth)
        self.carried = self._carried_codes()

    def to_motion(self, expression: NDArray[np.floating], jaw_pose: NDArray[np.floating]) -> NDArray[np.float32]:
        """Motion (T, 32) that the head shows with expression (T, E) and jaw (T, 3)."""
        points = self._model.points(self._betas, np.asarray(expression, np.float64), np.asarray(jaw_pose, np.float64))
        return self._measure(self._spread(points)).astype(np.float32)

    def from_motion(self, motion: NDArray[np.float32], tolerance: MotionTolerance | None = None) -> HeadParameters:
        """Expression and jaw that show a motion (T, 32) as nearly as the head can.

        Raises:
            MotionSpaceError: The last axis does not hold 32 numbers.
        """
        check_motion(motion)
        chunks = [
            self._solve(motion[start : start + CHUNK_FRAMES].astype(np.float64), tolerance or MotionTolerance())
            for start in range(0, len(motion), CHUNK_FRAMES)
        ]
        unknowns = np.concatenate(chunks) if chunks else np.zeros((0, self._model.num_expressions + 1))
        return HeadParameters(unknowns[:, :-1], unknowns[:, -1:] * np.array([1.0, 0.0, 0.0]))

    def _solve(self, motion: Array, tolerance: MotionTolerance) -> Array:
        expressions = self._model.num_expressions
        unknowns = np.zeros((len(motion), expressions + 1))
        sigma = np.full(expressions + 1, tolerance.expression * self._scale)
        sigma[-1] = tolerance.jaw_rad
        for _ in range(STEPS):
            jaw = unknowns[:, -1:] * np.array([1.0, 0.0, 0.0])
            points, by_coefficients, by_jaw = self._model.jacobians(self._betas, unknowns[:, :-1], jaw)
            slopes = np.concatenate([by_coefficients[..., self._model.num_betas :], by_jaw[..., :1]], 3)
            slope = self._code_slopes(slopes)[:, self.carried] / tolerance.code
            missing = (motion - self._measure(self._spread(points)))[:, self.carried] / tolerance.code
            across = slope.transpose(0, 2, 1)
            gram = across @ slope + np.diag(sigma**-2)
            gradient = (across @ missing[:, :, None])[:, :, 0] - unknowns / sigma**2
            unknowns = unknowns + np.linalg.solve(gram, gradient[:, :, None])[:, :, 0]
        return unknowns

    def _spread(self, points: Array) -> Array:
        """Model landmarks to all 478 in inter-ocular units; those that are not there stay at 0."""
        out = np.zeros((len(points), NUM_MEDIAPIPE, *points.shape[2:]))
        out[:, self._model.numbers] = points / self._inter_ocular
        return out

    def _measure(self, points: Array) -> Array:
        """Codes (T, 32) of spread landmarks; the codes that are not carried are 0."""
        delta = points - self._neutral
        out = np.zeros((len(points), MOTION_SIZE))
        out[:, MOUTH_CODES] = delta[:, list(MOUTH)].reshape(len(delta), -1) @ self._encoder
        out[:, BROW_CODES] = brow_codes(delta.astype(np.float32))
        if self._there[_lid_points()].all():
            out[:, LID_CODES] = lid_codes(points.astype(np.float32), self._neutral.astype(np.float32))
        return out * self.carried

    def _code_slopes(self, slopes: Array) -> Array:
        """Derivatives of the codes, (T, 32, U), from the landmarks' (T, L, 3, U); an eye's width counts as fixed."""
        spread = self._spread(slopes)
        out = np.zeros((len(spread), MOTION_SIZE, spread.shape[3]))
        mouth = spread[:, list(MOUTH)].reshape(len(spread), -1, spread.shape[3])
        out[:, MOUTH_CODES] = self._encoder.T @ mouth
        for column, part in enumerate(BROWS.values(), BROW_CODES.start):
            out[:, column] = BROW_UNITS * spread[:, list(part), 1].mean(1)
        for column, (lids, _) in enumerate(LIDS, LID_CODES.start):
            upper, lower = ([pair[side] for pair in lids] for side in (0, 1))
            rest = (self._neutral[upper, 1] - self._neutral[lower, 1]).mean()
            if self.carried[column]:
                out[:, column] = -(spread[:, upper, 1] - spread[:, lower, 1]).mean(1) / rest
        return out

    def _carried_codes(self) -> NDArray[np.bool_]:
        carried = np.zeros(MOTION_SIZE, np.bool_)
        carried[MOUTH_CODES] = True
        for column, part in enumerate(BROWS.values(), BROW_CODES.start):
            carried[column] = self._there[list(part)].all()
        carried[LID_CODES] = self._there[_lid_points()].all()
        return carried


def _lid_points() -> list[int]:
    return [point for lids, _ in LIDS for pair in lids for point in pair]


def _mouth_encoder(space: MotionSpace, there: NDArray[np.bool_]) -> Array:
    """Mouth displacement to codes, (len(MOUTH) * 3, 16).

    The space's own where every landmark is there. Otherwise the codes' expected value given the landmarks that are:
    codes have unit variance, so this is ridge regression on the basis (the noise is a hundredth of the inter-ocular
    distance).
    """
    if there.all():
        return space.encoder.astype(np.float64)
    basis = space.basis.astype(np.float64).reshape(len(space.basis), len(MOUTH), 3) * there[:, None]
    flat = basis.reshape(len(basis), -1) / PARTIAL_NOISE
    return np.asarray(np.linalg.solve(flat @ flat.T + np.eye(len(flat)), flat / PARTIAL_NOISE).T, np.float64)
