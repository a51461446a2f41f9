"""Frechet distance of two sets of features, each taken for a Gaussian (Heusel et al. 2017, Eq. 6): the D of FID.

    d = |mu1 - mu2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)),   covariances with n - 1

The root's trace is the sum of the singular values of S1^(1/2) S2^(1/2). With features as rows of A and B, their means
taken off, it is the sum of the singular values of A B^T over sqrt((n1 - 1)(n2 - 1)), which needs no covariance matrix.
Both forms are exact for singular covariances, where the usual matrix root needs a constant added to its diagonal.

A trap: estimated from n samples, d is too large by about (a constant) / n, and below as many samples as dimensions the
covariance is singular. A clip of 75 frames in 2048 dimensions gives values far above those of a pooled test set. So the
pooled distance is the main figure; distances of single videos compare with each other at equal length and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

__all__ = ["FeatureGaussian", "FeatureMoments", "frechet_distance", "frechet_of_features"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureGaussian:
    """Mean and covariance of features."""

    mean: Float64  # (D,)
    covariance: Float64  # (D, D)

    @classmethod
    def of(cls, features: Float64) -> FeatureGaussian:
        """Of features (n, D), n >= 2.

        Raises:
            InputError: The shape is wrong, or a value is not finite.
        """
        _check(features)
        return cls(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


class FeatureMoments:
    """Mean and covariance of features that come in parts, without keeping them."""

    def __init__(self, dimensions: int) -> None:
        self._count = 0
        self._sum = np.zeros(dimensions)
        self._products = np.zeros((dimensions, dimensions))

    def add(self, features: Float64) -> None:
        """Take in features (n, D).

        Raises:
            InputError: The shape is wrong, or a value is not finite.
        """
        if features.ndim != 2 or features.shape[1] != self._sum.size or not np.isfinite(features).all():
            raise InputError(f"need finite features (n, {self._sum.size}), got {features.shape}")
        self._count += len(features)
        self._sum += features.sum(0)
        self._products += features.T @ features

    @property
    def gaussian(self) -> FeatureGaussian:
        """Of all features so far.

        Raises:
            InputError: There are fewer than two.
        """
        if self._count < 2:
            raise InputError(f"a covariance needs two or more rows of features, got {self._count}")
        mean = self._sum / self._count
        scatter = self._products - self._count * np.outer(mean, mean)
        return FeatureGaussian(mean, scatter / (self._count - 1))


def frechet_distance(a: FeatureGaussian, b: FeatureGaussian) -> float:
    """Distance of two Gaussians, in squared feature units; 0 for equal ones.

    Raises:
        InputError: Their dimensions differ.
    """
    if a.mean.shape != b.mean.shape or a.covariance.shape != b.covariance.shape:
        raise InputError(f"Gaussians of {a.mean.size} and {b.mean.size} features have no distance")
    singular = np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False)
    apart = float(((a.mean - b.mean) ** 2).sum())
    return max(0.0, apart + float(np.trace(a.covariance) + np.trace(b.covariance) - 2 * singular.sum()))


def frechet_of_features(a: Float64, b: Float64) -> float:
    """Distance of two sets of features (n1, D) and (n2, D).

    Raises:
        InputError: The shapes are wrong, a set has fewer than two rows, or a value is not finite.
    """
    _check(a)
    _check(b)
    if a.shape[1] != b.shape[1]:
        raise InputError(f"sets of {a.shape[1]} and {b.shape[1]} features have no distance")
    if min(len(a), len(b)) >= a.shape[1]:
        return frechet_distance(FeatureGaussian.of(a), FeatureGaussian.of(b))
    from_a, from_b = a - a.mean(0), b - b.mean(0)
    freedom_a, freedom_b = len(a) - 1, len(b) - 1
    singular = np.linalg.svd(from_a @ from_b.T, compute_uv=False).sum() / np.sqrt(freedom_a * freedom_b)
    apart = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    traces = (from_a**2).sum() / freedom_a + (from_b**2).sum() / freedom_b
    return max(0.0, apart + float(traces - 2 * singular))


def _root(covariance: Float64) -> Float64:
    """The symmetric root; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T, np.float64)


def _check(features: Float64) -> None:
    if features.ndim != 2 or len(features) < 2:
        raise InputError(f"a Frechet distance needs features (n, D) with n >= 2, got {features.shape}")
    if not np.isfinite(features).all():
        raise InputError(f"{int((~np.isfinite(features)).sum())} of {features.size} features are not finite")
