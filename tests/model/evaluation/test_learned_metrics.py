"""Frechet distance in closed form, the two networks on weights of our own, and what happens without weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import Tensor

from model.errors import InputError
from model.evaluation.frechet import FeatureGaussian, FeatureMoments, frechet_distance, frechet_of_features
from model.evaluation.inception import InceptionFeatures, InceptionV3
from model.evaluation.learned_metrics import FidScore, LearnedMetrics, Lpips
from tests.support.closeness import assert_close

RNG = np.random.default_rng(0)
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
INCEPTION_WEIGHTS = 21_785_568  # Inception-V3 without classifier and auxiliary head


def _features(mean: np.ndarray, covariance: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Features whose own mean and covariance are exactly those."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False)).T)
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_axis_parallel_gaussians() -> None:
    a = FeatureGaussian(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]))
    b = FeatureGaussian(np.array([3.0, 1.0, -2.0]), np.diag([4.0, 4.0, 1.0]))
    wanted = 9 + 16 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(wanted, rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_tilted_gaussians_is_the_matrix_roots() -> None:
    a, b = (FeatureGaussian.of(RNG.normal(size=(40, 6)) @ RNG.normal(size=(6, 6))) for _ in range(2))
    root = np.trace(sqrtm(a.covariance @ b.covariance)).real
    wanted = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-9)


def test_distance_of_samples_with_known_mean_and_covariance() -> None:
    a = _features(np.zeros(4), np.diag([1.0, 1, 4, 4]), 50)
    b = _features(np.array([1.0, 0, 0, 0]), np.diag([1.0, 9, 4, 1]), 80, seed=1)
    assert frechet_of_features(a, b) == pytest.approx(1 + 4 + 1, rel=1e-9)
    assert frechet_of_features(a, a + 2) == pytest.approx(4 * 4, rel=1e-9)


def test_fewer_samples_than_features_need_no_trick() -> None:
    a, b = RNG.normal(size=(7, 30)), RNG.normal(0.5, 2.0, size=(12, 30))
    whole = frechet_distance(FeatureGaussian.of(a), FeatureGaussian.of(b))
    assert frechet_of_features(a, b) == pytest.approx(whole, rel=1e-6)
    assert frechet_of_features(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_few_samples_bias_the_distance_upwards() -> None:
    """Why single videos' values stand for nothing but themselves: both sets are of one Gaussian."""
    draw = np.random.default_rng(0)
    few, many = (frechet_of_features(draw.normal(size=(n, 32)), draw.normal(size=(n, 32))) for n in (16, 1600))
    assert few > 10 * many


def test_moments_of_parts_are_those_of_the_whole() -> None:
    features = RNG.normal(3.0, 0.5, size=(25, 5))
    moments = FeatureMoments(5)
    for part in np.split(features, [4, 5, 17]):
        moments.add(part)
    whole = FeatureGaussian.of(features)
    assert_close(moments.gaussian.mean, whole.mean, precision="float64")
    assert_close(moments.gaussian.covariance, whole.covariance, precision="float32")


def test_frechet_refuses_what_it_cannot_use() -> None:
    for match, call in {
        r"n >= 2, got \(1, 3\)": lambda: frechet_of_features(np.zeros((1, 3)), np.zeros((2, 3))),
        "3 and 4 features": lambda: frechet_of_features(np.zeros((2, 3)), np.zeros((2, 4))),
        "1 of 6 features are not finite": lambda: frechet_of_features(
            np.array([[0, 0, np.inf], [0, 0, 0]]), np.zeros((2, 3))
        ),
        "two or more rows of features, got 0": lambda: FeatureMoments(3).gaussian,
        r"\(n, 3\), got \(2, 4\)": lambda: FeatureMoments(3).add(np.zeros((2, 4))),
        r"\(n, 2048\), got \(3, 8\)": lambda: FidScore(2048).add(np.ones((3, 8)), np.ones((3, 8))),
    }.items():
        with np.errstate(all="ignore"), pytest.raises(InputError, match=match):
            call()


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file({name: tensor.half() for name, tensor in InceptionV3().state_dict().items()}, path)
    return path


def test_inception_has_the_published_size_and_scores_frames_one_by_one(inception_file: Path) -> None:
    assert sum(p.numel() for p in InceptionV3().parameters()) == INCEPTION_WEIGHTS
    network = InceptionFeatures(inception_file)
    frames = RNG.integers(0, 256, (3, 40, 52, 3), dtype=np.uint8)
    found = network.features(frames, batch=2)
    assert found.shape == (3, 2048) and (found >= 0).all() and found.std() > 0
    assert_close(network.features(frames[2:]), found[2:])  # the batch does not matter
    assert network.features(frames[:0]).shape == (0, 2048)
    assert "NOT the published" in network.note
    with pytest.raises(InputError, match=r"uint8, got .* float64"):
        network.features(frames / 255)


def test_fid_of_videos_one_by_one_and_pooled() -> None:
    """Shifts of two videos against each other cost each its own distance; pooled they widen one axis only."""
    left = _features(np.zeros(3), np.eye(3), 50)
    shift = np.array([2.0, 0, 0])
    score = FidScore(3)
    assert score.add(left + shift, left) == pytest.approx(4, rel=1e-9)
    assert score.add(left - shift, left) == pytest.approx(4, rel=1e-9)
    made, truth = (49 * 2 + 100 * 4) / 99, 49 * 2 / 99  # variance of the first axis over all 100 frames
    assert score.pooled == pytest.approx((made**0.5 - truth**0.5) ** 2, rel=1e-6)
    with pytest.raises(InputError, match="two or more"):
        _ = FidScore(3).pooled


def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, inception_file: Path) -> None:
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.pth")
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, tmp_path / "shape.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name, match in {
        "none.pth": "no Inception-V3 for FID weights at .*get pt_inception",
        "part.pth": "it lacks Conv2d_1a_3x3.bn.weight",
        "shape.pth": r"is \(1,\), not \(32, 3, 3, 3\)",
        "code.pth": "no Inception-V3 for FID state dict",
        "list.pth": "holds no Inception-V3",
        "text.pth": "no Inception-V3 for FID state dict",
        "empty.safetensors": "no Inception-V3 for FID state dict",
    }.items():
        with pytest.raises(InputError, match=match) as caught:
            InceptionFeatures(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[float]], Lpips]:
    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(1)
    alexnet: dict[str, Tensor] = {"classifier.1.weight": torch.zeros(2)}
    for index, (outputs, inputs, side) in ALEXNET.items():
        alexnet[f"features.{index}.weight"] = torch.randn(outputs, inputs, side, side) / side / inputs**0.5
        alexnet[f"features.{index}.bias"] = 0.1 * torch.randn(outputs)
    torch.save(alexnet, folder / "alexnet.pth")

    def make(heads: list[float]) -> Lpips:
        state = {
            f"lin{i}.model.1.weight": torch.full((1, shape[0], 1, 1), heads[i])
            for i, shape in enumerate(ALEXNET.values())
        }
        torch.save(state, folder / "heads.pth")
        return Lpips(folder / "alexnet.pth", folder / "heads.pth")

    return make


def test_lpips_of_equal_frames_is_zero_and_symmetric(lpips_files: Callable[[list[float]], Lpips]) -> None:
    network = lpips_files([1, 1, 1, 1, 1])
    a, b = RNG.integers(0, 256, (2, 2, 48, 64, 3), dtype=np.uint8)
    assert_close(network.distances(a, a), np.zeros(2))
    assert_close(network.distances(a, b), network.distances(b, a))
    assert (network.distances(a, b) > 0).all()
    assert_close(network.distances(a, b, batch=1), network.distances(a, b))
    assert_close(lpips_files([2, 2, 2, 2, 2]).distances(a, b), 2 * network.distances(a, b))


def test_lpips_of_one_layer_by_hand(lpips_files: Callable[[list[float]], Lpips], tmp_path: Path) -> None:
    """With the first head alone at 1: mean over places of 2 (1 - cosine) of the first layer's features."""
    network = lpips_files([1, 0, 0, 0, 0])
    a, b = RNG.integers(0, 256, (2, 1, 48, 64, 3), dtype=np.uint8)
    torch.manual_seed(1)
    weight, bias = torch.randn(64, 3, 11, 11) / 11 / 3**0.5, 0.1 * torch.randn(64)
    mean, deviation = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    layers = []
    for frame in (a, b):
        x = torch.from_numpy(((frame[0] / 127.5 - 1 - mean) / deviation).transpose(2, 0, 1)[None]).float()
        layers.append(F.relu(F.conv2d(x, weight, bias, stride=4, padding=2)))
    cosine = F.cosine_similarity(*layers, dim=1)
    assert_close(network.distances(a, b), [2 * (1 - cosine).mean().item()])


def test_lpips_refuses_small_and_unlike_frames(lpips_files: Callable[[list[float]], Lpips]) -> None:
    network = lpips_files([1, 1, 1, 1, 1])
    small = np.zeros((1, 20, 64, 3), np.uint8)
    with pytest.raises(InputError, match="at least 32 px"):
        network.distances(small, small)
    with pytest.raises(InputError, match="are uint8, got float64"):
        network.distances(np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 64, 3)))


def test_without_weights_a_line_says_so_and_nothing_is_scored(tmp_path: Path) -> None:
    learned = LearnedMetrics()
    assert learned.inception is None and learned.lpips is None
    assert len(learned.notes) == 2
    assert all("figures are absent" in note and "\n" not in note for note in learned.notes)
    with pytest.raises(InputError, match=r"also give alex\.pth"):
        LearnedMetrics(alexnet=tmp_path / "alexnet.pth")
