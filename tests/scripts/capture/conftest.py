"""A made-up head with ICT-FaceKit's vertex ranges, and tiny plans: nothing recorded and no Blender is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.capture.head import EYEBALL_RANGES, TOTAL, HeadMesh, HeadRig, load_head
from scripts.capture.person import IDENTITY_WEIGHTS, coefficient_names
from scripts.capture.plan import SEQUENCE, TRAIN, ClipSound, Expression, FramePlan, Plan

SHAPES = (
    "PupilDilate_L browInnerUp_L browInnerUp_R eyeBlink_L eyeBlink_R eyeLookDown_L eyeLookDown_R eyeLookIn_L "
    "eyeLookIn_R eyeLookOut_L eyeLookOut_R eyeLookUp_L eyeLookUp_R eyeSquint_L eyeSquint_R jawOpen mouthFunnel "
    "mouthSmile_L mouthSmile_R"
).split()
EYE_CENTERS = ((3.1, 3.5, 8.0), (-3.1, 3.5, 8.0))
EYE_RADIUS = 1.5


def on_sphere(count: int, rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    directions = rng.normal(size=(count, 3))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz like ict_facekit.npz: an egg of random vertices, two round eyes, small random shapes."""
    rng = np.random.default_rng(0)
    neutral = on_sphere(TOTAL, rng) * [8, 14, 10]
    for (first, end), center in zip(EYEBALL_RANGES, EYE_CENTERS, strict=True):
        neutral[first:end] = on_sphere(end - first, rng) * EYE_RADIUS + center
    triangles = rng.integers(0, 9409, size=(400, 3))
    triangles[1::2, 0], triangles[1::2, 1] = triangles[0::2, 0], triangles[0::2, 2]  # fans: 200 quads
    path = tmp_path_factory.mktemp("head") / "head.npz"
    np.savez(
        path,
        neutral=neutral.astype(np.float32),
        tri=triangles.astype(np.int32),
        expr=(rng.normal(size=(len(SHAPES), TOTAL, 3)) * 0.05).astype(np.float16),
        expr_names=np.array(SHAPES),
        ident=np.zeros((100, TOTAL, 3), np.float16),
    )
    return path


@pytest.fixture(scope="session")
def mesh(head_file: Path) -> HeadMesh:
    return load_head(head_file)


@pytest.fixture(scope="session")
def rig(mesh: HeadMesh) -> HeadRig:
    return HeadRig(mesh, IDENTITY_WEIGHTS)


@pytest.fixture(scope="session")
def small_plan(mesh: HeadMesh) -> Plan:
    """Four stills and a sequence of three frames."""
    names = coefficient_names(tuple(mesh.expressions))
    frames = []
    for index in range(3):
        face = Expression(names, {"jawOpen": 0.1 * index})
        notes = {"clip": "made", "t": 0.04 * index}
        frames.append(_frame(SEQUENCE, index, face, (0.0, 0.01 * index, 0.0), notes))
    for index in range(4):
        face = Expression(names, {"mouthFunnel": 0.2 * index})
        face.look(0.1, -0.05)
        frames.append(_frame(TRAIN, index, face, (0.05, round(-0.1 * index, 5), 0.02), {"kind": "fps"}))
    sound = ClipSound(np.arange(1920, dtype=np.int16), (("sil", 0.0, 0.05), ("set", 0.05, 0.12)))
    return Plan(names, tuple(frames), {"made": sound})


def _frame(
    split: str, index: int, face: Expression, rotvec: tuple[float, float, float], notes: dict[str, str | float]
) -> FramePlan:
    return FramePlan(
        split=split, index=index, coefficients=face.rounded(), head_rotvec=rotvec, gaze=(0.1, -0.05), notes=dict(notes)
    )
