"""A licence-free head in FLAME's file layout, built from ICT-FaceKit (MIT): so that everything here runs for everyone.

How the layout is filled:

- Identity: ICT's modes (unit variance) in the first of the 300 columns, the rest is zero.
- Jaw: the lower teeth of ICT's `jawOpen` move as a rigid body. The axis and angle of that motion, found by least
  squares, are the jaw joint and the angle that stands for `jawOpen` = 1 (25.3 degrees on the real head).
  The share of that rotation in each vertex's own `jawOpen` is its skinning weight, and what skinning leaves over goes
  into FLAME's pose directions, on the sine of the angle. So the joint alone reproduces `jawOpen` exactly at 0 and 1,
  and between them the chin follows an arc where ICT's shape takes the chord.
- Expressions: ICT's other shapes, in their order, from column 300 on. `jawForward`, `jawLeft` and `jawRight` stay among
  them, because FLAME's jaw only turns.
- Joints: root and neck on the two-pivot neck that avatars use, eyes at their eyeballs' centres (rigid).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.face.head_files import FLAME_JOINTS, NUM_STATIC, About, HeadArrays
from model.face.ict_head import IctHead
from model.face.landmark_embedding import contour_embedding, vertex_embedding

Array = NDArray[np.float64]
METRES_PER_UNIT = 0.01
PARENTS = (-1, 0, 1, 1, 1)  # root, neck, jaw, left eye, right eye
ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(FLAME_JOINTS)
JAW_SHAPE = "jawOpen"
EXPRESSION_SCALE = 0.3  # ICT's weights run from 0 to 1
JOINT_SUPPORT = 60  # vertices that carry a joint
SMALLEST_ARC = 0.3  # ICT units; below it the jaw's arc is too short to divide by
SINE_FEATURES = (5, 7)  # of vec(R - I): the entries -sin and +sin of a rotation about x
LICENCE = "MIT; Copyright (c) 2020 USC Institute for Creative Technologies (ICT-FaceKit)"
SOURCE = "built from ICT-FaceKit, https://github.com/ICT-VGL/ICT-FaceKit, by nerf-lipsync head-model"

MULTI_PIE = tuple(
    int(i)
    for i in (
        "1225 1888 1052 367 1719 1722 2199 1447 966 3661 4390 3927 3924 2608 3272 4088 3443 "
        "268 493 1914 2044 1401 3615 4240 4114 2734 2509 978 4527 4942 4857 1140 2075 1147 4269 3360 "
        "1507 1542 1537 1528 1518 1511 3742 3751 3756 3721 3725 3732 "
        "5708 5695 2081 0 4275 6200 6213 6346 6461 5518 5957 5841 5702 5711 5533 6216 6207 6470 5517 5966"
    ).split()
)
"""Vertices of the 68 Multi-PIE (iBUG) landmarks, from ICT-FaceKit's README."""


@dataclass(frozen=True)
class FaceRegions:
    """Which vertices of a head are what; lengths in the head's units."""

    ibug: NDArray[np.int64]  # (68,)
    mediapipe: NDArray[np.int64]  # (478,)
    lower_teeth: NDArray[np.int64]
    left_eyeball: NDArray[np.int64]
    right_eyeball: NDArray[np.int64]
    front: NDArray[np.int64]  # the face without ears and neck, where contours are looked for
    root: tuple[float, float, float] = (0.0, -12.5, -2.5)
    neck: tuple[float, float, float] = (0.0, -7.5, -1.5)
    neck_normal: tuple[float, float, float] = (0.0, 0.909, 0.417)  # of the planes across the neck: throat to nape
    neck_span: tuple[float, float] = (-13.0, -5.5)  # along that normal: collar, and where all turns with the head


def ict_regions(mediapipe: NDArray[np.int64]) -> FaceRegions:
    """The regions of ICT-FaceKit's mesh (its README); `mediapipe` (478,): vertex under each landmark."""
    return FaceRegions(
        ibug=np.array(MULTI_PIE),
        mediapipe=mediapipe,
        lower_teeth=np.arange(19247, 21451),
        left_eyeball=np.arange(21451, 23021),
        right_eyeball=np.arange(23021, 24591),
        front=np.arange(6706),
    )


@dataclass(frozen=True)
class JawMotion:
    """ICT's `jawOpen` as a rotation: `angle` rad about the x axis through `centre` (3,)."""

    angle: float
    centre: Array


def build_flame_layout(ict: IctHead, regions: FaceRegions) -> HeadArrays:
    """The head, with all three landmark embeddings.

    Raises:
        DataError: The head lacks triangles or the shape `jawOpen`, or its jaw does not turn.
    """
    if JAW_SHAPE not in ict.expression_names or not len(ict.triangles):
        raise DataError(f"the ICT head needs triangles and the shape {JAW_SHAPE!r}; read ICT-FaceKit's own files")
    neutral = ict.neutral.astype(np.float64)
    opened = ict.expression_basis([JAW_SHAPE])[0].astype(np.float64)
    jaw = jaw_motion(neutral, opened, regions.lower_teeth)
    names = tuple(name for name in ict.expression_names if name != JAW_SHAPE)
    weights = skinning_weights(neutral, opened, jaw, regions)
    correctives = jaw_correctives(neutral, opened, jaw, weights[:, JAW])
    posedirs = np.zeros((len(neutral), 3, 9 * (FLAME_JOINTS - 1)), np.float32)
    for feature, sign in zip(SINE_FEATURES, (-0.5, 0.5), strict=True):
        posedirs[:, :, 9 * (JAW - 1) + feature] = sign * METRES_PER_UNIT * correctives / np.sin(jaw.angle)
    faces = ict.triangles.astype(np.int64)
    return HeadArrays(
        about=About(
            kind="flame", source=SOURCE, licence=LICENCE, expression_names=names, expression_scale=EXPRESSION_SCALE
        ),
        v_template=(METRES_PER_UNIT * ict.neutral).astype(np.float32),
        faces=faces,
        identity_dirs=_directions(ict.identities),
        expression_dirs=_directions(ict.expression_basis(names)),
        posedirs=posedirs,
        joint_regressor=joint_regressor(neutral, jaw, regions).astype(np.float32),
        parents=np.array(PARENTS, np.int64),
        weights=weights.astype(np.float32),
        landmarks=vertex_embedding(regions.ibug[-NUM_STATIC:], faces),
        contour=contour_embedding(neutral, faces, regions.ibug, regions.front),
        mediapipe=vertex_embedding(regions.mediapipe, faces, np.arange(len(regions.mediapipe))),
    )


def jaw_motion(neutral: Array, opened: Array, rigid: NDArray[np.int64]) -> JawMotion:
    """Rotation about x and its centre that best explain how the lower teeth move (Procrustes in the y-z plane).

    Raises:
        DataError: They hardly turn.
    """
    before, after = neutral[rigid, 1:], (neutral + opened)[rigid, 1:]
    middle, moved = before.mean(0), after.mean(0)
    a, b = before - middle, after - moved
    angle = float(np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum()))
    if angle < 0.05:
        raise DataError(f"the lower teeth turn by {angle:.3f} rad in {JAW_SHAPE}; wanted more than 0.05 downward")
    turn = _turn(angle)[1:, 1:]
    centre = np.linalg.solve(np.eye(2) - turn, moved - turn @ middle)
    return JawMotion(angle, np.array([0.0, *centre]))


def skinning_weights(neutral: Array, opened: Array, jaw: JawMotion, regions: FaceRegions) -> Array:
    """(V, 5), rows sum to 1: the neck blends in smoothly, the jaw by its share of `jawOpen`, eyeballs are rigid."""
    low, high = regions.neck_span
    along = np.clip((neutral @ np.array(regions.neck_normal) - low) / (high - low), 0.0, 1.0)
    head = along**2 * (3 - 2 * along)
    arc = (neutral - jaw.centre) @ (_turn(jaw.angle) - np.eye(3)).T
    share = np.clip((opened * arc).sum(1) / ((arc**2).sum(1) + SMALLEST_ARC**2), 0.0, 1.0)
    weights = np.zeros((len(neutral), FLAME_JOINTS))
    weights[:, ROOT], weights[:, NECK], weights[:, JAW] = 1 - head, head * (1 - share), head * share
    for joint, eyeball in ((LEFT_EYE, regions.left_eyeball), (RIGHT_EYE, regions.right_eyeball)):
        weights[eyeball] = 0.0
        weights[eyeball, joint] = 1.0
    return weights


def jaw_correctives(neutral: Array, opened: Array, jaw: JawMotion, weight: Array) -> Array:
    """(V, 3) offsets before skinning that make the joint at `jaw.angle` give `opened` exactly.

    Skinning moves v + c by w (R - I)(v + c - centre), so (I + w (R - I)) c = opened - w (R - I)(v - centre).
    """
    turn = _turn(jaw.angle) - np.eye(3)
    missing = opened - weight[:, None] * ((neutral - jaw.centre) @ turn.T)
    solved = np.linalg.solve(np.eye(3) + weight[:, None, None] * turn, missing[:, :, None])
    return np.asarray(solved[:, :, 0], np.float64)


def joint_regressor(neutral: Array, jaw: JawMotion, regions: FaceRegions) -> Array:
    """(5, V), rows sum to 1: joints follow the identity with the vertices around them."""
    out = np.zeros((FLAME_JOINTS, len(neutral)))
    for joint, place in ((ROOT, np.array(regions.root)), (NECK, np.array(regions.neck)), (JAW, jaw.centre)):
        nearest = np.argsort(np.linalg.norm(neutral[:, 1:] - place[1:], axis=1), kind="stable")[:JOINT_SUPPORT]
        out[joint, nearest] = _affine_weights(neutral[nearest], place)
    for joint, eyeball in ((LEFT_EYE, regions.left_eyeball), (RIGHT_EYE, regions.right_eyeball)):
        out[joint, eyeball] = _affine_weights(neutral[eyeball], sphere_centre(neutral[eyeball]))
    return out


def sphere_centre(points: Array) -> Array:
    """Centre (3,) of the sphere nearest to points (N, 3), by linear least squares."""
    rows = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    return np.asarray(np.linalg.lstsq(rows, (points**2).sum(1), rcond=None)[0][:3], np.float64)


def load_mediapipe_vertices() -> NDArray[np.int64]:
    """ICT vertex under each of MediaPipe's 478 landmarks, as the frozen motion space records it."""
    from safetensors.numpy import load_file

    from model.motion.space import ASSET

    return load_file(Path(ASSET))["ict_vertices"].astype(np.int64)


def _directions(shapes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, V, 3) in ICT units to (V, 3, K) metres."""
    return np.ascontiguousarray(METRES_PER_UNIT * shapes.transpose(1, 2, 0), np.float32)


def _affine_weights(points: Array, place: Array) -> Array:
    """The smallest weights (N,) with sum 1 and sum w p = place."""
    rows = np.concatenate([points.T, np.ones((1, len(points)))])
    return np.asarray(np.linalg.pinv(rows) @ np.array([*place, 1.0]), np.float64)


def _turn(angle: float) -> Array:
    """Rotation about x."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
