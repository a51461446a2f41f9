"""One interface over FLAME and SMPL-X; the closed form of their landmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.errors import DataError, InputError
from model.face.head_files import About, Embedding, HeadArrays, head_from_arrays
from model.face.head_models import HeadModel
from model.face.rotations import matrices, matrix_derivatives
from tests.support.closeness import assert_close
from tests.support.small_head import official_arrays, official_embedding


def random_head(kind: str) -> HeadArrays:
    arrays = official_arrays(kind)
    arrays["shapedirs_columns"] = np.arange(400)
    rng = np.random.default_rng(11)
    faces = len(arrays["f"])
    return replace(
        head_from_arrays(arrays, About(kind=kind, source="made up", licence="none")),
        landmarks=Embedding(*official_embedding((51,), faces, rng)),
        contour=Embedding(*official_embedding((79, 17), faces, rng)),
        mediapipe=Embedding(*official_embedding((478,), faces, rng), np.arange(478)),
    )


@pytest.fixture(scope="module", params=["flame", "smplx"])
def model(request: pytest.FixtureRequest) -> HeadModel:
    return HeadModel(random_head(request.param))


def random_parameters(model: HeadModel, frames: int) -> tuple[NDArray[np.float64], ...]:
    rng = np.random.default_rng(frames)
    return rng.normal(size=40), rng.normal(size=(frames, 30)), rng.normal(0.0, 0.4, (frames, 3))


def test_closed_form_landmarks_are_those_of_the_smplx_package(model: HeadModel) -> None:
    betas, expression, jaw = random_parameters(model, 3)
    wanted = model.forward(
        betas=torch.tensor(betas)[None], expression=torch.tensor(expression), jaw_pose=torch.tensor(jaw)
    ).landmarks
    points = model.landmark_model(num_betas=40, num_expressions=30)
    assert points.numbers.tolist() == list(range(468))  # the irises turn with the eyes and stay out
    assert np.abs(points.points(betas, expression, jaw) - wanted[:, :468].numpy()).max() < 1e-7  # metres


def test_closed_form_derivatives_are_those_of_finite_differences(model: HeadModel) -> None:
    betas, expression, jaw = random_parameters(model, 2)
    jaw[0] = 0.0  # the closed jaw is where rotations need their series
    points = model.landmark_model(num_betas=40, num_expressions=30)
    at, by_coefficients, by_jaw = points.jacobians(betas, expression, jaw)
    assert_close(at, points.points(betas, expression, jaw), precision="float64")
    step = 1e-6
    for k in (0, 39):
        moved = [points.points(betas + s * step * (np.arange(40) == k), expression, jaw) for s in (1, -1)]
        assert np.abs((moved[0] - moved[1]) / (2 * step) - by_coefficients[..., k]).max() < 1e-8
    for k in (0, 29):
        moved = [points.points(betas, expression + s * step * (np.arange(30) == k), jaw) for s in (1, -1)]
        assert np.abs((moved[0] - moved[1]) / (2 * step) - by_coefficients[..., 40 + k]).max() < 1e-8
    for k in range(3):
        moved = [points.points(betas, expression, jaw + s * step * (np.arange(3) == k)) for s in (1, -1)]
        assert np.abs((moved[0] - moved[1]) / (2 * step) - by_jaw[..., k]).max() < 1e-8


def test_rotation_derivatives_near_and_far_from_zero() -> None:
    vectors = np.array([[0.0, 0.0, 0.0], [1e-7, -2e-7, 0.0], [2e-4, 0.0, 1e-4], [0.3, -1.2, 2.0]])
    slopes = matrix_derivatives(vectors)
    for k in range(3):
        step = 1e-6 * (np.arange(3) == k)
        assert np.abs((matrices(vectors + step) - matrices(vectors - step)) / 2e-6 - slopes[..., k]).max() < 1e-8


def test_any_batch_and_parts_of_one_frame(model: HeadModel) -> None:
    betas, expression, jaw = random_parameters(model, 5)
    parts = {"expression": torch.tensor(expression), "jaw_pose": torch.tensor(jaw)}
    together = model.forward(betas=torch.tensor(betas)[None], **parts, landmarks="ibug68")
    assert together.landmarks.shape == (5, 68, 3)
    alone = model.forward(
        betas=torch.tensor(betas)[None], expression=parts["expression"][3:4], jaw_pose=parts["jaw_pose"][3:4],
        landmarks="ibug68",
    )  # fmt: skip
    assert_close(together.vertices[3], alone.vertices[0], precision="float64")
    assert_close(together.landmarks[3], alone.landmarks[0], precision="float64")
    with pytest.raises(InputError, match=r"jaw_pose has shape \(2, 3\), wanted \(5"):
        model.forward(expression=parts["expression"], jaw_pose=parts["jaw_pose"][:2])
    with pytest.raises(InputError, match="betas"):
        model.forward(betas=torch.zeros(1, 301))


def test_global_pose_turns_about_the_root_joint(model: HeadModel) -> None:
    betas, _, _ = random_parameters(model, 1)
    turn, shift = np.array([0.1, -0.7, 0.2]), np.array([0.3, -0.1, 2.0])
    at_rest = model.forward(betas=torch.tensor(betas)[None]).vertices[0].numpy()
    posed = model.forward(
        betas=torch.tensor(betas)[None], global_orient=torch.tensor(turn)[None], transl=torch.tensor(shift)[None]
    ).vertices[0].numpy()  # fmt: skip
    root = model.root_joint(betas)
    wanted = (at_rest - root) @ Rotation.from_rotvec(turn).as_matrix().T + root + shift
    assert np.abs(posed - wanted).max() < 1e-6


def test_contour_follows_the_neck(model: HeadModel) -> None:
    head = model.head
    assert head.contour is not None
    for yaw_deg, row in ((0, 0), (-25, 25), (12, 39 + 12), (-70, 39), (70, 78)):
        neck = torch.tensor([[0.0, np.deg2rad(yaw_deg), 0.0]])
        found = model.forward(neck_pose=neck, landmarks="ibug68")
        corners = found.vertices[0].numpy()[head.faces[head.contour.face[row]]]
        assert_close(found.landmarks[0, :17], np.einsum("lci,lc->li", corners, head.contour.barycentric[row]))


def test_forward_is_differentiable(model: HeadModel) -> None:
    jaw = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    model.forward(jaw_pose=jaw).landmarks.square().sum().backward()
    assert jaw.grad is not None
    assert jaw.grad.abs().max() > 0


def test_absent_landmarks_are_named() -> None:
    bare = HeadModel(replace(random_head("flame"), mediapipe=None, contour=None))
    assert bare.landmark_sets == ("ibug51",)
    assert bare.landmark_names("ibug51") == tuple(range(17, 68))
    with pytest.raises(InputError, match=r"no 'mediapipe' landmarks \(it has: ibug51\)"):
        bare.forward()
    assert len(bare.landmark_model().numbers) == 51
    with pytest.raises(InputError, match="it has: none"):
        HeadModel(replace(bare.head, landmarks=None)).landmark_model()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("weights", np.zeros((400, 4)), "'weights' has shape"),
        ("v_template", np.full((400, 3), np.nan), "not finite"),
        ("f", np.full((3, 3), 400), "names vertex 400 of 400"),
        ("shapedirs_columns", np.zeros(400, np.int64), "must rise"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: NDArray[np.float64], complaint: str) -> None:
    arrays = {**official_arrays("flame"), "shapedirs_columns": np.arange(400), name: value}
    with pytest.raises(DataError, match=complaint):
        head_from_arrays(arrays, About(kind="flame", source="made up", licence="none"))
