"""Face alignment and cosine, with a network that passes the picture through, and with MobileFaceNet on real faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.identity import (
    ARCFACE_TEMPLATE,
    FaceEmbedder,
    align_faces,
    cosine_similarity,
    five_points,
    identity_cosine,
)
from model.motion.space import load_motion_space
from tests.support.closeness import assert_close
from tests.support.onnx_files import write_flatten_network
from tests.support.tracked_faces import tracked_stills

RNG = np.random.default_rng(0)


@pytest.fixture
def embedder(tmp_path: Path) -> FaceEmbedder:
    """Its embedding is the picture itself, as the network is given it."""
    path = tmp_path / "through.onnx"
    write_flatten_network(path, (1, 3, 112, 112))
    return FaceEmbedder(path)


def _landmarks(
    scale_px: float = 40.0, middle: tuple[float, float] = (100.0, 90.0), roll_deg: float = 0.0
) -> np.ndarray:
    """The motion space's mean face as landmarks (1, 478, 2) in a picture."""
    points = load_motion_space().template[:, :2] * np.array([1, -1], np.float32) * scale_px
    turn = np.radians(roll_deg)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (points @ rotation.T + np.array(middle))[None].astype(np.float32)


def test_the_network_gets_rgb_planes_from_minus_one_to_one(tmp_path: Path, embedder: FaceEmbedder) -> None:
    face = RNG.integers(0, 256, (1, 112, 112, 3), dtype=np.uint8)
    wanted = (face[0].astype(np.float64) / 127.5 - 1).transpose(2, 0, 1).ravel()
    assert embedder.size == 3 * 112 * 112
    assert_close(embedder.embed(face)[0], wanted / np.linalg.norm(wanted))
    raw = FaceEmbedder(tmp_path / "through.onnx", normalises_itself=True)
    wanted = face[0].astype(np.float64).transpose(2, 0, 1).ravel()
    assert_close(raw.embed(face)[0], wanted / np.linalg.norm(wanted))


def test_faces_anywhere_in_the_picture_align_to_one(embedder: FaceEmbedder) -> None:
    """A soft pattern drawn in face coordinates, moved, enlarged and rolled with its landmarks."""

    def drawn(landmarks: np.ndarray) -> np.ndarray:
        source = five_points(landmarks)[0]
        base = five_points(_landmarks())[0]
        back = cv2.estimateAffinePartial2D(source, base)[0]
        y, x = np.mgrid[0:240, 0:240] + 0.5
        u, v = np.einsum("ij,jhw->ihw", back[:, :2], np.stack([x, y])) + back[:, 2, None, None]
        waves = [np.sin(u / 9), np.sin(v / 7), np.sin((u + v) / 11)]
        return np.rint(np.stack(waves, -1) * 100 + 128).astype(np.uint8)[None]

    first, other = _landmarks(), _landmarks(55.0, (130.0, 110.0), 20.0)
    frames = [drawn(first), drawn(other)]
    faces = [align_faces(f, five_points(m)) for f, m in zip(frames, (first, other), strict=True)]
    assert np.abs(faces[0].astype(int) - faces[1]).mean() < 2.5
    assert identity_cosine(embedder, frames[1], other, frames[0], first)[0] > 0.998


def test_alignment_puts_the_points_onto_the_template() -> None:
    """A bright dot at each of the five points lands where ArcFace's template has it."""
    points = (ARCFACE_TEMPLATE @ np.array([[0.0, 1.4], [-1.4, 0.0]]) + [180.0, 20.0])[None] + 0.5
    frame = np.zeros((1, 200, 200, 3), np.uint8)
    for x, y in np.rint(points[0] - 0.5).astype(int):
        frame[0, y, x] = 255
    face = align_faces(frame, points)[0, ..., 0]
    for x, y in ARCFACE_TEMPLATE:
        rows, columns = np.mgrid[0:112, 0:112]
        near = np.hypot(columns - x, rows - y) < 3
        weights = face * near
        assert weights.sum() > 0
        place = (weights * columns).sum() / weights.sum(), (weights * rows).sum() / weights.sum()
        assert np.hypot(place[0] - x, place[1] - y) < 0.8


def test_the_first_eye_is_on_the_left_of_the_picture() -> None:
    right_eye, left_eye, nose, right_corner, left_corner = five_points(_landmarks())[0]
    assert right_eye[0] < nose[0] < left_eye[0] and right_corner[0] < nose[0] < left_corner[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_corner[1], left_corner[1])


def test_cosine_of_known_angles() -> None:
    a = np.array([[1.0, 0], [3, 0], [1, 1]])
    b = np.array([[2.0, 0], [0, 5], [-1, -1]])
    assert_close(cosine_similarity(a, b), [1, 0, -1], precision="float64")


def test_what_cannot_be_compared_is_refused(tmp_path: Path, embedder: FaceEmbedder) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    write_flatten_network(tmp_path / "small.onnx", (1, 3, 8))
    frames = np.zeros((2, 50, 50, 3), np.uint8)
    lost = np.repeat(_landmarks(), 2, 0)
    lost[1] = np.nan
    for match, call in {
        "no face embedder at": lambda: FaceEmbedder(tmp_path / "none.onnx"),
        r"bad\.onnx is no ONNX network": lambda: FaceEmbedder(tmp_path / "bad.onnx"),
        r"got \(2, 50, 50, 3\)": lambda: embedder.embed(frames),
        "1 of 2 frames have no landmarks": lambda: five_points(lost),
        r"\(2, 5, 2\) points, got \(1, 5, 2\)": lambda: align_faces(frames, np.zeros((1, 5, 2))),
        "coincide": lambda: align_faces(frames, np.ones((2, 5, 2))),
        "got 2 and 1": lambda: identity_cosine(embedder, frames, _landmarks(), frames[:1], _landmarks()),
        r"\(2, 3\) and \(2, 4\)": lambda: cosine_similarity(np.ones((2, 3)), np.ones((2, 4))),
        "1 of 2 embeddings have no direction": lambda: cosine_similarity(np.eye(2), np.diag([1.0, 0])),
    }.items():
        with pytest.raises(InputError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_mobilefacenet_knows_a_person_again_and_tells_people_apart(data_folder: Path) -> None:
    """Two clips of GRID s1 against each other (about 0.92), and against other speakers (below 0.37)."""
    from model.data.video import read_video

    embedder = FaceEmbedder(data_folder / "weights" / "mobilefacenet" / "MobileFaceNet.onnx")

    def pictures(folder: str, clip: int, suffix: str) -> np.ndarray:
        path = sorted((data_folder / folder).glob(f"*{suffix}"))[clip]
        return np.stack(list(read_video(path).frames(10, 50)))[::20]

    clips = [pictures("grid_s1/val", clip, ".mp4") for clip in (0, 20)]
    clips += [pictures("grid_others", clip, ".mpg") for clip in (0, 3, 5)]
    found = zip(clips, tracked_stills(clips, data_folder), strict=True)
    faces = [embedder.embed(align_faces(frames, five_points(landmarks))) for frames, landmarks in found]
    same, others = faces[:2], faces[2:]
    assert (same[0] @ same[1].T).mean() > 0.85
    people = [same[0], *others]
    strangers = [(a @ b.T).max() for i, a in enumerate(people) for b in people[:i]]
    assert max(strangers) < 0.37
