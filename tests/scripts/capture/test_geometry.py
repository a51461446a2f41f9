"""The head, its skin, hair and clothes: what must hold for any face, and what makes this one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.capture.camera import DISTANCE, TARGET, camera_matrix, focal_px, project
from scripts.capture.clothes import COLLAR_ACROSS, COLLAR_AROUND, below_collar, collar, eyeball, torso
from scripts.capture.errors import HeadFileError
from scripts.capture.hair import POINTS, hair_strands, hairline
from scripts.capture.head import (
    EYEBALLS,
    FACE,
    HEAD_AND_NECK,
    LANDMARKS,
    HeadMesh,
    HeadRig,
    head_matrix,
    load_head,
    quads_of,
)
from scripts.capture.labels import FrameLabels, LipRings
from scripts.capture.person import IDENTITY_WEIGHTS
from scripts.capture.plan_file import DEFAULT_PLAN, load_plan
from scripts.capture.shapes import catmull_rom, signed_distance, smoothstep, vertex_normals
from scripts.capture.skin import skin_colors
from scripts.capture.strands import BROW_HAIRS, LOWER_LASHES, UPPER_LASHES, brows, lashes

TURN = np.array([0.1, -0.3, 0.05])


@pytest.fixture(scope="module")
def real(data_folder: Path) -> HeadRig:
    return HeadRig(load_head(data_folder / "ict_facekit" / "ict_facekit.npz"), IDENTITY_WEIGHTS)


def test_quads_come_back_from_their_fans() -> None:
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [7, 8, 9], [7, 9, 1]])
    assert quads_of(triangles).tolist() == [[0, 1, 2, 3], [4, 5, 6, -1], [7, 8, 9, 1]]
    assert quads_of(np.zeros((0, 3), np.int64)).shape == (0, 4)


def test_triangles_list_the_second_halves_last(mesh: HeadMesh) -> None:
    assert (mesh.faces[:, 3] >= 0).all()
    triangles = mesh.triangles
    assert len(triangles) == 2 * len(mesh.faces)
    np.testing.assert_array_equal(triangles[: len(mesh.faces)], mesh.faces[:, :3])


def test_eyeballs_are_found(rig: HeadRig) -> None:
    for (center, radius), x in zip(rig.eyes, (3.1, -3.1), strict=True):
        assert center == pytest.approx((x, 3.5, 8.0), abs=0.02)
        assert radius == pytest.approx(1.5, abs=0.02)


def test_expressions_add_up(rig: HeadRig) -> None:
    np.testing.assert_array_equal(rig.expressed({"jawOpen": 0, "mouthFunnel": 1e-5}), rig.rest)
    both = rig.expressed({"jawOpen": 0.5, "mouthFunnel": 0.2})
    np.testing.assert_allclose(both, rig.rest + 0.5 * rig.shape("jawOpen") + 0.2 * rig.shape("mouthFunnel"), atol=1e-12)


def test_skull_turns_rigidly_and_the_collar_stays(real: HeadRig) -> None:
    turned, matrix = real.posed(real.rest, TURN)
    skull = real.rest[:, 1] > 0
    np.testing.assert_allclose(turned[skull], real.rest[skull] @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-9)
    low = (np.arange(EYEBALLS) < HEAD_AND_NECK) & (real.rest[:, 1] < -13.5 - 0.3 * real.rest[:, 2])
    assert low.sum() > 100
    np.testing.assert_array_equal(turned[low], real.rest[low])
    found = Rotation.from_matrix(matrix[:3, :3]).as_rotvec()
    np.testing.assert_allclose(found, TURN, atol=1e-9)


def test_no_turn_is_the_identity(rig: HeadRig) -> None:
    np.testing.assert_allclose(head_matrix(np.zeros(3)), np.eye(4), atol=1e-12)
    posed, _ = rig.posed(rig.rest, np.zeros(3))
    np.testing.assert_allclose(posed, rig.rest, atol=1e-12)


def test_head_is_the_labelled_one(real: HeadRig, data_folder: Path) -> None:
    about = json.loads((data_folder / "capture" / "capture.json").read_text())
    with np.load(data_folder / "capture" / "landmarks.npz") as points:
        rings = LipRings.of(real)
        assert list(rings.outer) == points["lip_outer_vertices"].tolist()
        assert list(rings.inner) == points["lip_inner_vertices"].tolist()
    for (center, radius), eye in zip(real.eyes, about["eyes"], strict=True):
        assert center == pytest.approx(eye["center"], abs=1e-4)
        assert radius == pytest.approx(eye["radius"], abs=1e-4)
    frame = about["frames"][300]
    np.testing.assert_allclose(head_matrix(np.array(frame["head_rotvec"])), frame["head_matrix"], atol=1e-6)


def test_labels_are_those_of_the_default_capture(real: HeadRig, data_folder: Path) -> None:
    about = json.loads((data_folder / "capture" / "capture.json").read_text())
    plan = load_plan(DEFAULT_PLAN)
    maker = FrameLabels(real, plan.coefficient_names, about["width"])
    with np.load(data_folder / "capture" / "landmarks.npz") as points:
        pixels = points["lm2d"]
    for row in range(0, len(plan.frames), 25):
        entry, found = maker.of(plan.frames[row])
        truth = about["frames"][row]
        np.testing.assert_allclose(found.pixels[:68], pixels[row], atol=0.01)
        for key in truth.keys() - {"landmarks2d", "eye_centers"}:
            assert entry[key] == truth[key], (truth["file"], key)
        assert entry.keys() == truth.keys()


def test_bound_hairs_follow_the_head(real: HeadRig) -> None:
    for strands, count in ((brows(real), BROW_HAIRS), (lashes(real), 2 * (UPPER_LASHES + LOWER_LASHES))):
        rest = strands.points(real.rest)
        assert len(rest) == count
        turned, matrix = real.posed(real.rest, TURN)
        moved = strands.points(turned)
        np.testing.assert_allclose(moved, rest @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-6)
        raised = strands.points(real.expressed({"browInnerUp_L": 1, "eyeBlink_L": 1}))
        assert np.abs(raised - rest).max() > 0.2


def test_hair_is_on_the_scalp_and_repeatable(real: HeadRig) -> None:
    strands = hair_strands(real, count=600)
    np.testing.assert_array_equal(strands, hair_strands(real, count=600))
    assert strands.shape == (600, POINTS, 3)
    roots = strands[:, 0]
    angle = np.arctan2(np.abs(roots[:, 0]), roots[:, 2] + 0.5)
    assert (roots[:, 1] > hairline(angle) - 0.8).all()
    length = np.linalg.norm(np.diff(strands, axis=1), axis=2).sum(1)
    assert length.min() > 0.5 and length.max() < 12


def test_skin_is_colored_by_region(real: HeadRig) -> None:
    colors, lip = skin_colors(real)
    assert colors.shape == (EYEBALLS, 3) and (colors >= 0).all() and (colors <= 1).all()
    lips = (lip > 0.9) & (np.arange(EYEBALLS) < FACE)
    assert 200 < lips.sum() < 2000
    skin = colors[:FACE][lip[:FACE] < 0.01]
    assert (colors[lips, 0] / colors[lips, 1]).mean() > 1.4 * np.median(skin[:, 0] / skin[:, 1])


def test_lip_color_stays_on_the_face(real: HeadRig) -> None:
    _, lip = skin_colors(real)
    assert lip[FACE:].max() == 0


def test_collar_is_a_ring_around_the_neck(real: HeadRig) -> None:
    ring = collar(real)
    assert len(ring.vertices) == COLLAR_AROUND * COLLAR_ACROSS == len(ring.faces) == len(ring.colors)
    reach = np.hypot(ring.vertices[:, 0], ring.vertices[:, 2] + 1.6)
    assert reach.min() > 4 and reach.max() < 12
    corners = np.sort(np.concatenate([ring.faces[:, [k, (k + 1) % 4]] for k in range(4)]), axis=1)
    _, uses = np.unique(corners, axis=0, return_counts=True)
    assert (uses == 2).all()  # closed: every edge has two faces


def test_torso_is_below_the_collar(real: HeadRig) -> None:
    pytest.importorskip("skimage", reason="scikit-image makes the torso: pip install nerf-lipsync[capture]")
    body = torso()
    assert body.faces.max() == len(body.vertices) - 1 and len(body.colors) == len(body.vertices)
    assert body.vertices[:, 1].max() < -8
    assert np.ptp(body.vertices[:, 0]) > 35
    assert not below_collar(real, np.array(LANDMARKS)).any()  # the face is in the open, the bust's rim is not
    assert below_collar(real, np.array([int(real.rest[:HEAD_AND_NECK, 1].argmin())])).all()


def test_eyeball_bulges_in_front_only() -> None:
    ball = eyeball()
    radius = np.linalg.norm(ball.vertices, axis=1)
    front = ball.vertices[:, 2] > 0.9
    assert radius[front].max() == pytest.approx(1.055, abs=1e-6)
    np.testing.assert_allclose(radius[ball.vertices[:, 2] < 0], 1, atol=1e-12)


def test_camera_looks_at_the_target_from_its_distance() -> None:
    for yaw, pitch in ((0, 0), (-20, 0), (25, 10), (10, -10)):
        matrix = camera_matrix(yaw, pitch)
        assert np.linalg.norm(matrix[:3, 3] - TARGET) == pytest.approx(DISTANCE)
        assert project(np.array([TARGET]), matrix, 320)[0] == pytest.approx((160, 160))
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
    assert camera_matrix(20)[0, 3] > 0  # towards the subject's left
    assert camera_matrix(0, 10)[1, 3] > TARGET[1]  # from above
    left_up = project(np.array([[5.0, 5.0, 0.0]]), camera_matrix(0), 320)[0]
    assert left_up[0] > 160 > left_up[1]
    assert focal_px(320) == pytest.approx(606.3158, abs=1e-4)


def test_shapes() -> None:
    assert smoothstep([-1, 0, 0.5, 1, 2], 0, 1).tolist() == [0, 0, 0.5, 1, 1]
    assert smoothstep(0.2, 1, 0) == pytest.approx(0.896)
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], float)
    np.testing.assert_allclose(signed_distance(np.array([[1, 1], [3, 1], [0.5, 1]]), square), [-1, 1, -0.5], atol=1e-9)
    assert len(catmull_rom(square, 5, closed=True)) == 20
    line = catmull_rom(square, 5, closed=False)
    assert len(line) == 16 and line[-1].tolist() == [0, 2] and line[5].tolist() == [2, 0]
    normals = vertex_normals(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float), np.array([[0, 1, 2]]))
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 3)


def test_wrong_head_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(HeadFileError, match="not found"):
        load_head(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", neutral=np.zeros((4, 3)))
    with pytest.raises(HeadFileError, match="not an npz of ICT-FaceKit's arrays"):
        load_head(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(HeadFileError, match="not an npz of ICT-FaceKit's arrays"):
        load_head(tmp_path / "text.npz")
    arrays = {"expr": np.zeros((1, 4, 3)), "expr_names": np.array(["jawOpen"]), "ident": np.zeros((2, 4, 3))}
    np.savez(tmp_path / "small.npz", neutral=np.zeros((4, 3)), tri=np.zeros((1, 3)), **arrays)
    with pytest.raises(HeadFileError, match="4 vertices and 2 identity modes"):
        load_head(tmp_path / "small.npz")
    with pytest.raises(HeadFileError, match="generic_neutral_mesh"):
        load_head(tmp_path)
