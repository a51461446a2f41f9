"""The ICT-FaceKit head: one identity, its expressions, and how head and neck turn.

The vertices keep ICT-FaceKit's order, in which each region is a range. Read from the npz that the project's data uses
or from a checkout of ICT-FaceKit. Shapes are rounded to 16-bit floats, as the npz stores them: both give one head.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.errors import DataError, ModelError
from model.face.ict_head import IctHead
from scripts.capture.errors import HeadFileError
from scripts.capture.shapes import Array, Index, smoothstep

# Ends of the regions in vertex order.
FACE: Final = 9409
HEAD_AND_NECK: Final = 11248
MOUTH_SOCKET: Final = 13294
EYE_SOCKETS: Final = 14062
GUMS_AND_TONGUE: Final = 17039
TEETH: Final = 21451
EYEBALLS: Final = 24591
TOTAL: Final = 26719
EYEBALL_RANGES: Final = ((21451, 22221), (23021, 23791))  # the white of the left and right eye

# fmt: off
LANDMARKS: Final = (  # the 68 Multi-PIE points, from ICT-FaceKit's list
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443,
    268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,
    5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
)
# fmt: on

PIVOT_LOW: Final = (0.0, -12.5, -2.5)  # base of the neck
PIVOT_HIGH: Final = (0.0, -2.5, -0.5)  # base of the skull
SHARE_LOW: Final = 0.42
SHARE_HIGH: Final = 0.58
NEGLIGIBLE: Final = 1e-4  # coefficients below move nothing


@dataclass(frozen=True)
class HeadMesh:
    """ICT-FaceKit's arrays: neutral (V, 3), shapes by name, identity modes (100, V, 3), and its faces."""

    neutral: Array
    expressions: Mapping[str, NDArray[np.float16]]  # in the file's order, each (V, 3)
    identities: NDArray[np.float16]
    faces: Index  # (F, 4) vertex indices; -1 in the last place marks a triangle

    @property
    def triangles(self) -> Index:
        """Triangles of all regions up to the eyeballs: first one of each face, then the second of each quad.

        Hair is drawn by index from this list: another order is another hairstyle.
        """
        kept = self.faces[self.faces.max(1) < EYEBALLS]
        quads = kept[kept[:, 3] >= 0]
        return np.concatenate([kept[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def load_head(path: Path) -> HeadMesh:
    """Read the head.

    Raises:
        HeadFileError: It is missing, damaged, or another mesh than ICT-FaceKit's light one.
    """
    try:
        head = IctHead.load(path)
    except (ModelError, DataError) as error:
        raise HeadFileError(f"{error}; --head takes ict_facekit.npz or a checkout of ICT-FaceKit") from error
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise HeadFileError(
            f"{path} is not an ICT-FaceKit npz ({error}); it needs neutral, tri, expr, ident"
        ) from error
    if head.neutral.shape != (TOTAL, 3) or len(head.identities) != 100:
        raise HeadFileError(
            f"{path} holds {len(head.neutral)} vertices and {len(head.identities)} identity modes; "
            f"ICT-FaceKit's light model has {TOTAL} and 100"
        )
    shapes = head.expressions.astype(np.float16)
    missing = {"jawOpen", "eyeBlink_L", "mouthSmile_R", "browInnerUp_L"} - set(head.expression_names)
    if missing:
        raise HeadFileError(f"{path} lacks the expression shapes {sorted(missing)}; wanted ARKit names with _L and _R")
    return HeadMesh(
        neutral=head.neutral.astype(np.float64),
        expressions=dict(zip(head.expression_names, shapes, strict=True)),
        identities=head.identities.astype(np.float16),
        faces=quads_of(head.triangles.astype(np.int64)),
    )


def quads_of(triangles: Index) -> Index:
    """Faces (F, 4) whose fans are these triangles, in order; -1 in the last place of a triangle."""
    faces: list[tuple[int, int, int, int]] = []
    i = 0
    while i < len(triangles):
        a, b, c = (int(v) for v in triangles[i])
        fan = i + 1 < len(triangles) and triangles[i + 1, 0] == a and triangles[i + 1, 1] == c
        faces.append((a, b, c, int(triangles[i + 1, 2]) if fan else -1))
        i += 2 if fan else 1
    return np.array(faces, np.int64).reshape(-1, 4)


class HeadRig:
    """One person's head. Vertex arrays (EYEBALLS, 3) hold all regions up to the eyeballs."""

    def __init__(self, mesh: HeadMesh, identity: Sequence[float]) -> None:
        self.mesh = mesh
        self.triangles = mesh.triangles
        whole = mesh.neutral + np.tensordot(np.asarray(identity, np.float64), mesh.identities, (0, 0))
        self.rest: Array = whole[:EYEBALLS]
        self.landmarks: Array = self.rest[list(LANDMARKS)]  # (68, 3) at rest
        self.eyes = tuple(fit_eyeball(self.rest[first:end]) for first, end in EYEBALL_RANGES)  # left, right
        self._shapes = {n: s[:EYEBALLS].astype(np.float64) for n, s in mesh.expressions.items()}
        self._stiffness = neck_stiffness(self.rest)

    def shape(self, name: str) -> Array:
        """Displacement (EYEBALLS, 3) of one expression at full strength."""
        return self._shapes[name]

    def expressed(self, coefficients: Mapping[str, float]) -> Array:
        """Vertices of an expression in the neutral pose."""
        vertices = self.rest.copy()
        for name, value in coefficients.items():
            if abs(value) > NEGLIGIBLE:
                vertices += value * self._shapes[name]
        return vertices

    def posed(self, vertices: Array, rotvec: Array) -> tuple[Array, Array]:
        """Vertices with the head turned by a rotation vector (rad), and the head's matrix (4, 4).

        The skull moves rigidly; the neck blends from it to rest at the collar, each joint by its own ramp.
        """
        matrix = head_matrix(rotvec)
        out = vertices.copy()
        rigid = self._stiffness >= 1
        out[rigid] = vertices[rigid] @ matrix[:3, :3].T + matrix[:3, 3]
        neck = ~rigid & (self._stiffness > 0)
        if np.linalg.norm(rotvec) > 1e-8 and neck.any():
            high = SHARE_HIGH * smoothstep(self._stiffness[neck], 0.25, 1.0)
            low = SHARE_LOW * smoothstep(self._stiffness[neck], 0, 0.7)
            moved = vertices[neck]
            for share, pivot in ((high, np.array(PIVOT_HIGH)), (low, np.array(PIVOT_LOW))):
                moved = Rotation.from_rotvec(share[:, None] * rotvec[None]).apply(moved - pivot) + pivot
            out[neck] = moved
        return out, matrix


def head_matrix(rotvec: Array) -> Array:
    """Head-local to world (4, 4): the rotation is shared by two pivots in the neck."""
    low = _about(Rotation.from_rotvec(SHARE_LOW * rotvec), PIVOT_LOW)
    return np.asarray(low @ _about(Rotation.from_rotvec(SHARE_HIGH * rotvec), PIVOT_HIGH))


def neck_stiffness(rest: Array) -> Array:
    """1 on the skull, 0 below the collar, linear along the slanted neck between; shape (V,)."""
    top = -5.3 - 0.344 * rest[:, 2]
    bottom = -13.0 - 0.30 * rest[:, 2]
    stiffness = np.clip((rest[:, 1] - bottom) / (top - bottom), 0, 1)
    stiffness[rest[:, 1] > top] = 1
    stiffness[HEAD_AND_NECK:] = 1
    return np.asarray(stiffness)


def fit_eyeball(white: Array) -> tuple[Array, float]:
    """Center (3,) and radius of the sphere through the back of an eyeball's white (P, 3)."""
    back = white[white[:, 2] < white[:, 2].max() - 0.55]
    rows = np.concatenate([2 * back, np.ones((len(back), 1))], 1)
    solution = np.linalg.lstsq(rows, (back**2).sum(1), rcond=None)[0]
    center = solution[:3]
    return center, float(np.sqrt(solution[3] + center @ center))


def _about(rotation: Rotation, pivot: Sequence[float]) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.as_matrix()
    matrix[:3, 3] = np.array(pivot) - matrix[:3, :3] @ np.array(pivot)
    return matrix
