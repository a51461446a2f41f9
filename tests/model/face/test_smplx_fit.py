"""Known parameters in, recovered parameters out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.errors import ConfigError, InputError
from model.face.bordered_solve import BorderedSystem, solve_bordered
from model.face.flame_layout import build_flame_layout, ict_regions, load_mediapipe_vertices
from model.face.head_models import HeadModel
from model.face.ict_head import IctHead
from model.face.smplx_fit import FitConfig, HeadFit, PinholeCamera, fit_clip
from tests.support.closeness import assert_close
from tests.support.small_head import small_ict_head

Array = NDArray[np.float64]
CAMERA = PinholeCamera(fx=600.0, fy=620.0, cx=160.0, cy=150.0)
EXACT = FitConfig(landmark_sigma_px=0.02, expression_step_sigma=None, jaw_step_sigma_rad=None)


@pytest.fixture(scope="module", params=["small", "real"])
def model(request: pytest.FixtureRequest) -> HeadModel:
    if request.param == "small":
        return HeadModel(build_flame_layout(*small_ict_head()))
    data: Path = request.getfixturevalue("data_folder")
    ict = IctHead.load(data / "ict_facekit" / "ict_facekit.npz")
    return HeadModel(build_flame_layout(ict, ict_regions(load_mediapipe_vertices())))


def known(model: HeadModel, frames: int, *, seed: int = 0) -> HeadFit:
    """Random parameters of a clip in random poses."""
    rng = np.random.default_rng(seed)
    angles = np.stack([rng.uniform(-a, a, frames) for a in (25, 12, 8)], 1)
    turn = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    jaw = np.zeros((frames, 3))
    jaw[:, 0] = rng.uniform(0.0, 0.35, frames)
    return HeadFit(
        betas=rng.normal(0.0, 0.7, model.num_betas),
        expression=rng.uniform(0.0, 0.5, (frames, model.num_expressions)) * (rng.random(model.num_expressions) < 0.4),
        jaw_pose=jaw,
        rotation=np.diag([1.0, -1.0, -1.0]) @ turn,
        translation=np.stack([*rng.uniform(-0.03, 0.03, (2, frames)), rng.uniform(0.6, 0.8, frames)], 1),
        reprojection_px=np.zeros(frames),
    )


def project(model: HeadModel, truth: HeadFit) -> Array:
    points = model.landmark_model()
    head = points.points(truth.betas, truth.expression, truth.jaw_pose)
    placed = np.einsum("tij,tlj->tli", truth.rotation, head) + truth.translation[:, None]
    seen = np.full((len(head), 478, 3), np.nan)
    seen[:, points.numbers, 0] = CAMERA.fx * placed[..., 0] / placed[..., 2] + CAMERA.cx
    seen[:, points.numbers, 1] = CAMERA.fy * placed[..., 1] / placed[..., 2] + CAMERA.cy
    return seen


def moved_mm(model: HeadModel, fit: HeadFit, truth: HeadFit) -> Array:
    """Distance of the head-frame landmarks, (T, L)."""
    points = model.landmark_model()
    found = points.points(fit.betas, fit.expression, fit.jaw_pose)
    wanted = points.points(truth.betas, truth.expression, truth.jaw_pose)
    return 1e3 * np.linalg.norm(found - wanted, axis=2)


def turn_deg(fit: HeadFit, truth: HeadFit) -> Array:
    return np.rad2deg(Rotation.from_matrix(fit.rotation @ truth.rotation.transpose(0, 2, 1)).magnitude())


def test_exact_landmarks_give_the_parameters_back(model: HeadModel) -> None:
    truth = known(model, 12)
    fit = fit_clip(model, project(model, truth), CAMERA, EXACT)
    assert fit.reprojection_px.max() < 0.02
    assert np.rad2deg(np.abs(fit.jaw_pose[:, 0] - truth.jaw_pose[:, 0])).max() < 0.2
    assert turn_deg(fit, truth).max() < 0.05
    assert np.abs(fit.translation - truth.translation).max() < 2e-3
    assert moved_mm(model, fit, truth).max() < 0.5


def test_half_a_pixel_of_noise(model: HeadModel) -> None:
    truth = known(model, 20, seed=4)
    seen = project(model, truth)
    seen += 0.5 * np.random.default_rng(1).normal(size=seen.shape)
    fit = fit_clip(model, seen, CAMERA, replace(EXACT, landmark_sigma_px=0.5))
    assert np.abs(fit.reprojection_px - 0.5 * np.sqrt(2)).max() < 0.08
    assert np.rad2deg(np.sqrt(((fit.jaw_pose - truth.jaw_pose) ** 2).mean(0)))[0] < 1.0
    assert np.sqrt((turn_deg(fit, truth) ** 2).mean()) < 0.4
    assert np.sqrt((moved_mm(model, fit, truth) ** 2).mean()) < 1.5


def test_wrong_landmarks_are_outvoted() -> None:
    model = HeadModel(build_flame_layout(*small_ict_head()))
    truth = known(model, 10)
    seen = project(model, truth)
    rng = np.random.default_rng(2)
    for frame in seen:
        frame[rng.choice(468, 25, replace=False), :2] += rng.uniform(-60.0, 60.0, (25, 2))
    fit = fit_clip(model, seen, CAMERA, replace(EXACT, landmark_sigma_px=0.3))
    assert np.median(moved_mm(model, fit, truth)) < 0.5
    assert turn_deg(fit, truth).max() < 0.5


def test_missing_frames_and_landmarks() -> None:
    model = HeadModel(build_flame_layout(*small_ict_head()))
    truth = known(model, 8)
    seen = project(model, truth)
    whole = fit_clip(model, seen, CAMERA)
    seen[3] = np.nan
    seen[5, 8:] = np.nan  # too few left
    seen[6, ::7] = np.nan
    fit = fit_clip(model, seen, CAMERA)
    for part in (fit.expression, fit.jaw_pose, fit.rotation, fit.translation, fit.reprojection_px):
        lost = np.isnan(part).reshape(8, -1).any(1)
        assert lost.tolist() == [False, False, False, True, False, True, False, False]
    kept = [0, 1, 2, 4, 6, 7]
    assert np.abs(fit.rotation[kept] - whole.rotation[kept]).max() < 5e-3
    assert np.abs(fit.jaw_pose[kept] - whole.jaw_pose[kept]).max() < 0.02


def test_smoothness_pulls_neighbours_together() -> None:
    model = HeadModel(build_flame_layout(*small_ict_head()))
    truth = known(model, 30)
    still = replace(truth, expression=truth.expression[:1].repeat(30, 0), jaw_pose=truth.jaw_pose[:1].repeat(30, 0))
    seen = project(model, still) + np.random.default_rng(0).normal(size=(30, 478, 3))
    free = fit_clip(model, seen, CAMERA, FitConfig(expression_step_sigma=None, jaw_step_sigma_rad=None))
    bound = fit_clip(model, seen, CAMERA, FitConfig(expression_step_sigma=0.05, jaw_step_sigma_rad=0.001))
    assert np.std(bound.jaw_pose[:, 0]) < 0.5 * np.std(free.jaw_pose[:, 0])
    assert np.std(bound.expression, axis=0).mean() < 0.5 * np.std(free.expression, axis=0).mean()
    assert abs(bound.jaw_pose[:, 0].mean() - still.jaw_pose[0, 0]) < 0.02


def test_the_jaw_keeps_its_limits() -> None:
    model = HeadModel(build_flame_layout(*small_ict_head()))
    truth = known(model, 4)
    wide = replace(truth, jaw_pose=np.tile([0.5, 0.0, 0.0], (4, 1)))
    config = replace(EXACT, landmark_sigma_px=1.0, jaw_limits_rad=(-0.02, 0.3), jaw_limit_sigma_rad=1e-3)
    fit = fit_clip(model, project(model, wide), CAMERA, config)
    assert fit.jaw_pose[:, 0].max() < 0.32


def test_ibug_landmarks_alone_carry_a_fit() -> None:
    model = HeadModel(build_flame_layout(*small_ict_head()))
    truth = known(model, 10)
    bare = HeadModel(replace(model.head, mediapipe=None))
    seen = project(model, truth)
    fit = fit_clip(bare, seen, CAMERA, EXACT)
    assert fit.reprojection_px.max() < 0.05
    assert turn_deg(fit, truth).max() < 1.0


def test_input_that_cannot_be_used() -> None:
    model = HeadModel(build_flame_layout(*small_ict_head()))
    with pytest.raises(InputError, match=r"shape \(5, 68, 2\)"):
        fit_clip(model, np.zeros((5, 68, 2)), CAMERA)
    with pytest.raises(InputError, match="none of 5 frames"):
        fit_clip(model, np.full((5, 478, 3), np.nan), CAMERA)
    with pytest.raises(ConfigError, match="focal lengths"):
        PinholeCamera(fx=0.0, fy=1.0, cx=0.0, cy=0.0)
    with pytest.raises(ConfigError, match="must rise"):
        FitConfig(jaw_limits_rad=(0.3, 0.1))


def test_bordered_system_is_solved_as_the_dense_one() -> None:
    rng = np.random.default_rng(0)
    frames, size, shared, damping = 4, 3, 2, 0.3
    dense = np.zeros((frames * size + shared,) * 2)
    slopes = rng.normal(size=(frames, 6, size + shared))
    links = rng.uniform(0.1, 1.0, (frames - 1, size))
    blocks, border = np.zeros((frames, size, size)), np.zeros((frames, size, shared))
    corner = np.eye(shared)
    for t, slope in enumerate(slopes):
        gram = slope.T @ slope
        blocks[t], border[t] = gram[:size, :size], gram[:size, size:]
        corner += gram[size:, size:]
        for neighbour in (t - 1, t):
            if 0 <= neighbour < frames - 1:
                blocks[t] += np.diag(links[neighbour])
        place = slice(t * size, (t + 1) * size)
        dense[place, place], dense[place, -shared:], dense[-shared:, place] = blocks[t], border[t], border[t].T
        if t:
            before = slice((t - 1) * size, t * size)
            dense[place, before] = dense[before, place] = -np.diag(links[t - 1])
    dense[-shared:, -shared:] = corner
    dense += damping * np.diag(np.diag(dense))
    gradient = rng.normal(size=len(dense))
    wanted = -np.linalg.solve(dense, gradient)
    system = BorderedSystem(blocks, links, border, corner, gradient[:-shared].reshape(frames, size), gradient[-shared:])
    step, shared_step = solve_bordered(system, damping)
    assert_close(step.ravel(), wanted[:-shared], precision="float64")
    assert_close(shared_step, wanted[-shared:], precision="float64")
