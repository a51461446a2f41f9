"""From canonical points to motion: the filter keeps closures, calibration closes lips, ARKit weights come back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import InputError
from model.face.arkit_fit import fit_arkit
from model.face.calibration import calibrate_speaker
from model.face.head_shape import HeadShape, load_head_shape
from model.face.landmarks import LandmarkError, fill_gaps, split_where_lost
from model.face.temporal_filter import filter_points, moving_share
from model.motion.arkit import ARKIT_NAMES
from model.motion.face_points import LOWER_LIP_INNER, MOUTH, UPPER_LIP_INNER
from model.motion.space import load_motion_space

NOISE = 0.004  # inter-ocular units: what the tracker does on GRID


@pytest.fixture(scope="module")
def shape() -> HeadShape:
    return load_head_shape()


def speaking(shape: HeadShape, jaw_open: NDArray[np.float64]) -> NDArray[np.float32]:
    """Canonical points (T, 478, 3) whose jaw opens as told."""
    jaw = shape.expressions[shape.expression_names.index("jawOpen")]
    return ((shape.neutral + jaw_open[:, None, None] * jaw) / shape.inter_ocular_cm).astype(np.float32)


def gap(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return points[:, UPPER_LIP_INNER, 1] - points[:, LOWER_LIP_INNER, 1]


def trembling(points: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    return points + np.random.default_rng(seed).normal(0, NOISE, points.shape).astype(np.float32)


def test_still_faces_stop_trembling(shape: HeadShape) -> None:
    still = speaking(shape, np.zeros(100))
    left = filter_points(trembling(still)) - still
    assert left[5:-5].std() < 0.75 * NOISE


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_closures_keep_their_depth(shape: HeadShape, frames: int) -> None:
    jaw_open = np.full(60, 0.4)
    jaw_open[30 : 30 + frames] = 0.0
    true = speaking(shape, jaw_open)
    found = gap(filter_points(trembling(true)))
    depth = gap(true)[0] - gap(true)[30]
    assert found[20:25].mean() - found[30 : 30 + frames].min() > 0.95 * depth


def test_the_filter_has_no_delay(shape: HeadShape) -> None:
    time = np.arange(150)
    true = speaking(shape, 0.25 + 0.25 * np.sin(time / 2.0))
    found, wanted = gap(filter_points(trembling(true))), gap(true)
    lags = [np.corrcoef(found[10 + lag : 140 + lag], wanted[10:140])[0, 1] for lag in (-1, 0, 1)]
    assert int(np.argmax(lags)) == 1
    assert lags[1] > 0.995


def test_moving_share_tells_rest_from_motion(shape: HeadShape) -> None:
    jaw_open = np.concatenate([np.zeros(60), 0.3 + 0.3 * np.sin(np.arange(30)), np.zeros(60)])
    share = moving_share(trembling(speaking(shape, jaw_open))[:, list(MOUTH)])
    assert share[5:55].mean() < 0.2
    assert share[63:87].mean() > 0.9


def test_short_clips_pass_unchanged(shape: HeadShape) -> None:
    points = speaking(shape, np.zeros(5))
    np.testing.assert_array_equal(filter_points(points), points)


def test_motion_zero_is_closed_lips_whatever_gap_the_tracker_leaves(shape: HeadShape) -> None:
    space = load_motion_space()
    jaw_open = np.abs(np.sin(np.arange(200) / 6)) * 0.5
    jaw_open[80:110] = 0.0
    points = speaking(shape, jaw_open)
    left_open = points.copy()
    left_open[:, LOWER_LIP_INNER, 1] -= 0.03  # a tracker that never quite closes this mouth
    for tracked in (points, left_open):
        opening = space.lip_opening(calibrate_speaker(tracked).motion(tracked, space))
        assert np.abs(opening[85:105]).max() < 0.005
        assert opening.max() > 0.1


def test_motion_does_not_depend_on_the_size_of_the_face(shape: HeadShape) -> None:
    space = load_motion_space()
    points = speaking(shape, np.abs(np.sin(np.arange(100) / 6)) * 0.5)
    motion, larger = (calibrate_speaker(p).motion(p, space) for p in (points, points * np.float32(1.2)))
    np.testing.assert_allclose(larger, motion, atol=0.02)  # the closed level has a tolerance in face units
    with pytest.raises(InputError, match="no frame"):
        calibrate_speaker(points[:0])


def test_arkit_weights_come_back(shape: HeadShape) -> None:
    rng = np.random.default_rng(1)
    names = ("jawOpen", "mouthPucker", "mouthSmile_L", "browInnerUp_L")
    weights = np.clip(rng.uniform(-0.3, 0.7, (80, len(names))), 0, 1)
    weights[:20] = 0.0
    basis = shape.expressions[[shape.expression_names.index(n) for n in names]]
    points = ((shape.neutral + np.tensordot(weights, basis, 1)) / shape.inter_ocular_cm).astype(np.float32)
    found = fit_arkit(points, calibrate_speaker(points), shape)
    assert found.shape == (80, 52)
    assert found.min() >= 0 and found.max() <= 1
    for column, name in enumerate(("jawOpen", "mouthPucker", "mouthSmileLeft")):
        r = np.corrcoef(found[:, ARKIT_NAMES.index(name)], weights[:, column])[0, 1]
        assert r > 0.95, name


def test_a_nod_is_not_an_open_jaw(shape: HeadShape) -> None:
    points = speaking(shape, np.zeros(40))
    pitch = np.radians(1.5) * np.sin(np.arange(40) / 4)
    nodding = points + np.cross(np.stack([pitch, 0 * pitch, 0 * pitch], 1)[:, None], points).astype(np.float32)
    found = fit_arkit(nodding, calibrate_speaker(points), shape)[:, ARKIT_NAMES.index("jawOpen")]
    assert found.max() < 0.05


def test_clips_split_where_the_face_is_lost() -> None:
    found = np.ones(120, np.bool_)
    found[40:45] = False  # five frames can be filled
    found[80:86] = False  # six cannot
    found[:3] = False
    assert split_where_lost(found) == [(3, 80), (86, 120)]
    assert split_where_lost(found, min_frames=40) == [(3, 80)]
    assert split_where_lost(np.zeros(10, np.bool_)) == []


def test_gaps_are_filled_on_a_line_and_long_ones_refused() -> None:
    track = np.repeat(np.arange(20, dtype=np.float32), 6).reshape(20, 2, 3)
    holed = track.copy()
    holed[5:10] = np.nan
    np.testing.assert_allclose(fill_gaps(holed), track)
    holed[4] = np.nan
    with pytest.raises(LandmarkError, match="6 frames"):
        fill_gaps(holed)
