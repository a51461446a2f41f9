"""A small head in ICT-FaceKit's form, and head files in the layout in which FLAME and SMPL-X are handed out.

The face is the motion space's mean face (478 vertices, one under each MediaPipe landmark), with a row of lower teeth
that turns exactly about a jaw axis, two eyeballs and a neck. Everything else is smooth and made up.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from scipy.spatial.transform import Rotation

from model.face.flame_layout import FaceRegions
from model.face.head_models import IBUG_IN_MEDIAPIPE
from model.face.ict_head import IctHead
from model.motion.space import load_motion_space

INTER_OCULAR = 6.2  # ICT units, about 1 cm
JAW_ANGLE_RAD = 0.4
JAW_CENTRE = np.array([0.0, -2.0, 2.0])
SMPLX_PARENTS = [
    *[-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15],
    *[20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38],
    *[21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53],
]
BUMPS = {  # MediaPipe landmark in the middle, displacement in ICT units
    "browInnerUp_L": (336, (0.0, 0.7, 0.0)),
    "browInnerUp_R": (107, (0.0, 0.7, 0.0)),
    "browOuterUp_L": (300, (0.0, 0.7, 0.1)),
    "browOuterUp_R": (70, (0.0, 0.7, 0.1)),
    "cheekPuff_L": (425, (0.4, 0.0, 0.4)),
    "cheekPuff_R": (205, (-0.4, 0.0, 0.4)),
    "eyeBlink_L": (386, (0.0, -0.6, 0.1)),
    "eyeBlink_R": (159, (0.0, -0.6, 0.1)),
    "mouthFunnel": (13, (0.0, 0.2, 0.6)),
    "mouthLowerDown": (17, (0.0, -0.6, 0.1)),
    "mouthSmile_L": (291, (0.8, 0.5, -0.3)),
    "mouthSmile_R": (61, (-0.8, 0.5, -0.3)),
    "mouthUpperUp": (0, (0.0, 0.5, 0.1)),
}


def small_ict_head() -> tuple[IctHead, FaceRegions]:
    """The head, and which of its vertices are what."""
    rng = np.random.default_rng(5)
    face = load_motion_space().template.astype(np.float64) * INTER_OCULAR + [0.0, 3.5, 9.5]
    face += rng.normal(0.0, 1e-3, face.shape)  # no two vertices in one place
    teeth = np.stack([np.linspace(-2.0, 2.0, 30), np.full(30, -4.5), np.linspace(8.0, 9.0, 30)], 1)
    ball = rng.normal(size=(40, 3))
    ball = 1.4 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    eyes = [ball + np.array([side, 3.5, 8.0]) for side in (3.1, -3.1)]
    turn, height = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(-16.0, -4.0, 13))
    neck = np.stack([5 * np.sin(turn), height, 5 * np.cos(turn) - 1.0], -1).reshape(-1, 3)
    vertices = np.concatenate([face, teeth, *eyes, neck])
    count = len(face)
    parts = [np.arange(count, count + 30), np.arange(count + 30, count + 70), np.arange(count + 70, count + 110)]
    triangles = np.concatenate(
        [Delaunay(face[:, :2]).simplices, *(np.stack([p[:-2], p[1:-1], p[2:]], 1) for p in parts)]
    )
    names = sorted([*BUMPS, "jawOpen"])
    shapes = [_jaw_open(vertices, count) if n == "jawOpen" else _bump(vertices, *BUMPS[n], count) for n in names]
    smooth = rng.normal(0.0, 0.02, (6, 3, 3))
    identities = np.einsum("kij,vj->kvi", smooth, vertices - vertices.mean(0))
    regions = FaceRegions(
        ibug=np.array(IBUG_IN_MEDIAPIPE),
        mediapipe=np.arange(count),
        lower_teeth=parts[0],
        left_eyeball=parts[1],
        right_eyeball=parts[2],
        front=np.arange(count),
    )
    single = [np.asarray(a, np.float32) for a in (vertices, np.stack(shapes), identities)]
    return IctHead(single[0], single[1], tuple(names), single[2], triangles.astype(np.int32)), regions


def _jaw_open(vertices: NDArray[np.float64], face: int) -> NDArray[np.float64]:
    """Teeth turn as they are; the face takes a share that grows from the upper lip to the chin."""
    turn = Rotation.from_rotvec([JAW_ANGLE_RAD, 0.0, 0.0]).as_matrix()
    share = np.zeros(len(vertices))
    share[:face] = np.clip((vertices[13, 1] - 0.02 - vertices[:face, 1]) / 0.3, 0.0, 0.95)
    share[face : face + 30] = 1.0
    return share[:, None] * ((vertices - JAW_CENTRE) @ (turn - np.eye(3)).T)


def _bump(
    vertices: NDArray[np.float64], middle: int, displacement: tuple[float, float, float], face: int
) -> NDArray[np.float64]:
    near = np.exp(-((vertices - vertices[middle]) ** 2).sum(1) / 2.0)
    near[face:] = 0.0
    return near[:, None] * np.array(displacement)


def official_arrays(kind: str, *, directions: int = 400, seed: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of an official model file on a made-up mesh of 400 vertices: `flame` or `smplx`."""
    rng = np.random.default_rng(seed)
    parents = [-1, 0, 1, 1, 1] if kind == "flame" else SMPLX_PARENTS
    joints, n = len(parents), 20
    u, v = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    mesh = np.stack([u * 0.08, v * 0.1, 0.09 * np.sqrt(2.1 - u**2 - v**2)], -1).reshape(-1, 3)
    i = np.arange(n * n).reshape(n, n)
    corners = [(i[:-1, :-1], i[1:, :-1], i[:-1, 1:]), (i[1:, :-1], i[1:, 1:], i[:-1, 1:])]
    regressor, weights = rng.random((joints, n * n)), rng.random((n * n, joints))
    arrays: dict[str, NDArray[Any]] = {
        "v_template": mesh,
        "f": np.concatenate([np.stack(c, -1).reshape(-1, 3) for c in corners]).astype(np.uint32),
        "shapedirs": rng.normal(0.0, 1e-3, (n * n, 3, directions)),
        "posedirs": rng.normal(0.0, 1e-3, (n * n, 3, 9 * (joints - 1))),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "kintree_table": np.array([[p % 2**32 for p in parents], range(joints)], np.int64),
        "weights": weights / weights.sum(1, keepdims=True),
    }
    if kind == "smplx":
        face, corner = official_embedding((51,), len(arrays["f"]), rng)
        moving_face, moving_corner = official_embedding((79, 17), len(arrays["f"]), rng)
        arrays |= {
            "hands_componentsl": np.eye(45),
            "hands_componentsr": np.eye(45),
            "hands_meanl": np.full(45, 0.1),
            "hands_meanr": np.full(45, 0.1),
            "lmk_faces_idx": face,
            "lmk_bary_coords": corner,
            "dynamic_lmk_faces_idx": moving_face,
            "dynamic_lmk_bary_coords": moving_corner,
        }
    return arrays


def official_embedding(
    shape: tuple[int, ...], num_faces: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Random triangles and weights."""
    weights = rng.random((*shape, 3))
    return rng.integers(0, num_faces, shape), weights / weights.sum(-1, keepdims=True)


class Chumpy:
    """What `python2_pickle` writes as a `chumpy.ch.Ch`."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values


class Sparse:
    """What `python2_pickle` writes as a `scipy.sparse.csc.csc_matrix`."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values


def python2_pickle(value: object) -> bytes:
    """A pickle as Python 2.7 wrote them (protocol 2): byte strings, `copy_reg`, old names of NumPy and SciPy."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: object) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str | bytes):
        text = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(text)) + text
    if isinstance(value, tuple):
        return b"(" + b"".join(_opcodes(item) for item in value) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(_opcodes(item) for pair in value.items() for item in pair) + b"u"
    if isinstance(value, np.ndarray):
        return _array_opcodes(value)
    if isinstance(value, Chumpy):
        no_names = b"c__builtin__\nset\n(]tR"
        state = b"}(" + _opcodes("x") + _opcodes(value.values) + _opcodes("_dirty_vars") + no_names
        return _old_object("chumpy.ch", "Ch") + state + _opcodes("_itr") + b"Nu" + b"b"
    if isinstance(value, Sparse):
        return _old_object("scipy.sparse.csc", "csc_matrix") + _opcodes(_csc_state(value.values)) + b"b"
    raise TypeError(type(value))


def _old_object(module: str, name: str) -> bytes:
    return b"ccopy_reg\n_reconstructor\n(" + f"c{module}\n{name}\n".encode() + b"c__builtin__\nobject\nNtR"


def _array_opcodes(value: NDArray[Any]) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _opcodes((0,)) + _opcodes("b") + b"tR"
    dtype = b"cnumpy\ndtype\n" + _opcodes((value.dtype.str[1:], 0, 1)) + b"R"
    dtype += _opcodes((3, "<", None, None, None, -1, -1, 0)) + b"b"
    state = b"(" + _opcodes(1) + _opcodes(value.shape) + dtype + _opcodes(False) + _opcodes(value.tobytes()) + b"t"
    return made + state + b"b"


def _csc_state(values: NDArray[Any]) -> dict[str, object]:
    from scipy.sparse import csc_matrix

    matrix = csc_matrix(values)
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    return {"format": "csc", "_shape": matrix.shape, "maxprint": 50, **parts}
