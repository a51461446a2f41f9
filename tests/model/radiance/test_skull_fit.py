"""A skull taller than the field's cube: the cube is lifted, the rows above the warp grid are stretched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.avatar import Avatar
from model.radiance.camera import CanonicalSpace
from model.radiance.config import FieldConfig
from model.radiance.field import RadianceField
from model.training.skull_fit import HIGHEST, MOST_LIFT, STRETCH, SkullFit, fit_skull
from model.training.warm_start import FaceDisplacement, load_start, start_occupancy, widened

CONFIG = FieldConfig()
KNEE = CONFIG.warp_hi[1]
ROW = 2 / (CONFIG.resolution - 1)
COLUMNS = np.array([-0.3, 0.0, 0.3])
TALL = fit_skull(COLUMNS, np.array([0.95, 1.1, 1.0]), np.array([0.9, 0.95, 0.85]), CONFIG)


def test_a_tall_head_comes_into_the_cube_and_the_old_outline_to_the_filmed_one() -> None:
    top = 1.1 - TALL.lift  # in the new cube
    assert HIGHEST - ROW <= top <= HIGHEST
    assert TALL.lift / ROW == pytest.approx(round(TALL.lift / ROW))
    filmed = np.stack([COLUMNS, np.array([0.95, 1.1, 1.0]) - TALL.lift, COLUMNS * 0], 1)
    np.testing.assert_allclose(TALL.old_points(filmed)[:, 1], [0.9, 0.95, 0.85])
    face = np.random.default_rng(0).uniform([-1, -1, -1], [1, KNEE, 1], (20, 3))
    np.testing.assert_allclose(TALL.old_points(face), face + np.array([0, TALL.lift, 0]))


def test_points_go_to_the_old_cube_and_back() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    np.testing.assert_allclose(TALL.new_points(TALL.old_points(points)), points)
    head = np.random.default_rng(1).uniform(-9, 9, (50, 3))
    low = TALL.space(CanonicalSpace()).from_head(head)
    face = low[:, 1] < KNEE
    np.testing.assert_allclose(TALL.old_points(low)[face], CanonicalSpace().from_head(head)[face])


@pytest.mark.parametrize(("new", "old"), [(0.0, 0.9), (0.9, 0.0)])
def test_a_top_that_is_not_seen_changes_nothing(new: float, old: float) -> None:
    skull = fit_skull(np.zeros(1), np.array([new]), np.array([old]), CONFIG)
    planes = torch.randn(3, 16, 16, 4)
    assert torch.equal(skull.planes(planes), planes)
    assert skull.space(CanonicalSpace()) == CanonicalSpace()


def test_no_head_is_stretched_out_of_all_measure_and_flanks_follow_their_neighbours() -> None:
    giant = fit_skull(np.array([0.0, 0.1, 0.2]), np.array([2.0, 0.8, 0.8]), np.array([1.0, 1.0, 0.75]), CONFIG)
    assert giant.lift <= MOST_LIFT + ROW and giant.columns == (0.0,) and giant.stretches == (STRETCH[1],)
    assert fit_skull(np.zeros(1), np.array([0.6]), np.array([1.0]), CONFIG).stretches == (STRETCH[0],)


def test_planes_show_at_new_heights_what_the_old_ones_have() -> None:
    """Rows are numbered: below the knee they are taken over as they are, above it they lie between two."""
    heights = torch.linspace(-1, 1, CONFIG.resolution)
    old = heights[None, :, None, None].expand(3, -1, CONFIG.resolution, 1).contiguous()
    made = TALL.planes(old)
    for plane, column, x in ((0, 10, heights[10]), (0, 82, heights[82]), (1, 5, 0.0)):
        places = np.stack([np.full(CONFIG.resolution, float(x)), heights.numpy(), np.zeros(CONFIG.resolution)], 1)
        wanted = TALL.old_points(places)[:, 1].clip(-1, 1)
        np.testing.assert_allclose(made[plane, :, column, 0], wanted, atol=1e-5)
    assert torch.equal(made[2], old[2])
    shift = round(TALL.lift / ROW)
    assert torch.equal(made[0, : CONFIG.resolution // 2], old[0, shift : shift + CONFIG.resolution // 2])


def test_the_start_looks_in_the_lifted_cube_as_it_did(avatar: Avatar) -> None:
    """Face and neck: same outputs at the same places of the head; the occupancy moves along."""
    config = avatar.config.field_config
    skull = fit_skull(np.zeros(1), np.array([1.2]), np.array([1.0]), config)
    face = np.random.default_rng(0).normal(0, 3, (478, 3)).astype(np.float32)
    space = avatar.config.space
    shown = []
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) * 0.8 - 0.4
    for fit in (SkullFit(), skull):
        field = RadianceField(widened(config))
        displacement = FaceDisplacement(face, face, space, skull=fit)
        load_start(field, avatar, displacement)
        frame = field.frame_conditions(torch.zeros(1, 32), torch.zeros(1, 3))
        here = torch.from_numpy(fit.new_points(points.numpy())).float()
        with torch.no_grad():
            shown.append(field.raw_output(here, [len(here)], frame))
        warm = start_occupancy(avatar, displacement, torch.ones(16, 16, 16, dtype=torch.bool))
        assert float(warm.contains(here).float().mean()) > 0.9
    assert float((shown[0] - shown[1]).abs().mean()) < 0.05 * float(shown[0].std())
