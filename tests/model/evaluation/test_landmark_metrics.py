"""Landmark distance by hand, and the liveliness measures against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.landmark_metrics import (
    band_power,
    ibug68,
    inter_ocular_px,
    jerk,
    landmark_distance,
    landmark_scores,
    mean_free_distance,
    ratio_to_truth,
    scaled_to,
    velocity_deviation,
)
from tests.support.closeness import assert_close

FPS = 25.0
MOUTH_OF_MEDIAPIPE = [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87]


def face(frames: int = 5, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0, 300, (frames, 68, 2))


def wave(hertz: float, frames: int, amplitude: float = 1.0) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(frames) / FPS)


def test_the_mouth_is_taken_in_the_order_of_the_68_points() -> None:
    numbered = np.repeat(np.arange(478.0)[None, :, None], 3, axis=2)
    points = ibug68(numbered)
    assert points.shape == (1, 68, 2)
    assert points[0, 48:68, 0].tolist() == MOUTH_OF_MEDIAPIPE


def test_truth_against_truth_is_zero_wherever_the_face_stands() -> None:
    truth = face()
    moved = truth + np.arange(10.0).reshape(5, 1, 2)
    for region in ("mouth", "face"):
        assert_close(landmark_distance(moved, truth, region=region), np.zeros(5), precision="float64")


def test_one_mouth_point_ten_pixels_off() -> None:
    truth = face()
    made = truth.copy()
    made[:, 60] += (6.0, 8.0)
    # the mean moves by 10/20: that point is 9.5 off, the other nineteen 0.5
    assert_close(landmark_distance(made, truth), np.full(5, (9.5 + 19 * 0.5) / 20), precision="float64")
    assert_close(landmark_distance(made, truth, region="face"), np.full(5, 2 * 10 * 67 / 68**2), precision="float64")


def test_the_mouth_does_not_see_the_chin() -> None:
    truth = face()
    made = truth.copy()
    made[:, 8] += 50.0
    assert landmark_distance(made, truth).max() < 1e-9
    assert landmark_distance(made, truth, region="face").min() > 1.0


def test_inter_ocular_units_do_not_depend_on_the_picture_size() -> None:
    truth, made = face(), face(seed=1)
    small, large = landmark_scores(made, truth), landmark_scores(3 * made, 3 * truth)
    assert large["lmd_mouth"] == pytest.approx(3 * small["lmd_mouth"])
    assert large["lmd_mouth_iod"] == pytest.approx(small["lmd_mouth_iod"])
    assert large["lmd_face_iod"] == pytest.approx(small["lmd_face_iod"])


def test_inter_ocular_distance_is_between_the_middles_of_the_eyes() -> None:
    points = np.zeros((1, 68, 2))
    points[0, [36, 39]] = (0, 0), (20, 0)
    points[0, [42, 45]] = (60, 30), (80, 50)
    assert inter_ocular_px(points)[0] == pytest.approx(np.hypot(60, 40))


def test_another_persons_size_is_taken_over() -> None:
    truth = face()
    assert landmark_distance(scaled_to(0.4 * truth, truth), truth).max() < 1e-9


def test_a_steady_opening_has_no_velocity_deviation_and_no_jerk() -> None:
    ramp = 0.1 * np.arange(50.0)
    assert velocity_deviation(ramp) == pytest.approx(0.0, abs=1e-9)
    assert jerk(ramp) == pytest.approx(0.0, abs=1e-6)


def test_velocity_of_a_sine() -> None:
    signal = wave(1.0, 101)  # 100 differences: four whole periods
    assert velocity_deviation(signal) == pytest.approx(2 * np.sin(np.pi / FPS) * FPS / np.sqrt(2))


def test_jerk_of_a_cubic() -> None:
    assert jerk(np.arange(20.0) ** 3) == pytest.approx(6 * FPS**3)


def test_liveliness_of_points_is_that_of_their_coordinates() -> None:
    signal = wave(1.0, 101)
    points = np.stack([signal, signal], 1)[:, None]
    assert velocity_deviation(points) == pytest.approx(velocity_deviation(signal))
    assert band_power(points) == pytest.approx(band_power(signal))


@pytest.mark.parametrize(("hertz", "inside"), [(0.6, False), (4.0, True), (6.0, True), (11.0, False)])
def test_power_counts_what_lies_in_the_band(hertz: float, inside: bool) -> None:
    power = band_power(wave(hertz, 250, amplitude=0.2))
    assert power == pytest.approx(0.2**2 / 2 if inside else 0.0, abs=1e-6)


def test_ratios_to_truth() -> None:
    signal = wave(3.0, 75)
    assert ratio_to_truth(velocity_deviation(1.3 * signal), velocity_deviation(signal)) == pytest.approx(1.3)
    assert ratio_to_truth(band_power(0.5 * signal), band_power(signal)) == pytest.approx(0.25)
    assert np.isnan(ratio_to_truth(1.0, 0.0))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"\(5, 20, 2\)"):
        landmark_distance(face()[:, :20], face())
    with pytest.raises(InputError, match="5 and 4 frames"):
        landmark_distance(face(5), face(4))
    with pytest.raises(InputError, match=r"\(3, 68, 2\)"):
        ibug68(face(3))
    with pytest.raises(InputError, match="one shape"):
        mean_free_distance(face(2), face(3))
    with pytest.raises(InputError, match="at least 4 frames"):
        jerk(np.zeros(3))
    with pytest.raises(InputError, match=r"12.5 Hz, got 2\.\.13"):
        band_power(np.zeros(100), band_hz=(2, 13))
    with pytest.raises(InputError, match="eyes coincide"):
        landmark_scores(np.zeros((1, 68, 2)), np.zeros((1, 68, 2)))
