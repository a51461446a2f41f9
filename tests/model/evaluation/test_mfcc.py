"""The cepstra against their formula, point by point, and against the package's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.mfcc import mfcc
from tests.support.closeness import assert_close


def sound(samples: int, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).normal(0, 3000, samples).astype(np.int16)


def direct_column(audio: NDArray[np.int16], column: int) -> list[float]:
    """Sums and products only."""
    x = [float(v) for v in audio]
    emphasised = [x[0]] + [x[i] - 0.97 * x[i - 1] for i in range(1, len(x))]
    window = [emphasised[i] if i < len(x) else 0.0 for i in range(160 * column, 160 * column + 400)]
    n = np.arange(400)
    power = [abs(sum(window * np.exp(-2j * np.pi * k * n / 512))) ** 2 / 512 for k in range(257)]
    mels = [2595 * math.log10(1 + 8000 / 700) * i / 27 for i in range(28)]
    corner = [math.floor(513 * 700 * (10 ** (m / 2595) - 1) / 16000) for m in mels]
    bands = []
    for low, middle, high in zip(corner, corner[1:], corner[2:], strict=False):
        up = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
        down = sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))
        bands.append(math.log(up + down))
    out = []
    for c in range(13):
        cosines = sum(b * math.cos(math.pi * c * (2 * i + 1) / 52) for i, b in enumerate(bands))
        out.append(cosines * math.sqrt((1 if c == 0 else 2) / 26) * (1 + 11 * math.sin(math.pi * c / 22)))
    out[0] = math.log(sum(power))
    return out


@pytest.mark.parametrize("column", [0, 1, 3])
def test_it_is_its_formula(column: int) -> None:
    audio = sound(850)  # the last column reaches 30 samples beyond the end
    found = mfcc(audio)
    assert found.shape == (4, 13)
    assert_close(found[column], direct_column(audio, column), precision="float64")


@pytest.mark.parametrize(("samples", "columns"), [(1, 1), (400, 1), (401, 2), (560, 2), (29 * 640, 115)])
def test_columns_count_as_the_package_counts_them(samples: int, columns: int) -> None:
    assert mfcc(sound(samples)).shape == (columns, 13)


def test_silence_is_finite() -> None:
    found = mfcc(np.zeros(1600, np.int16))
    assert_close(found[:, 0], np.full(len(found), math.log(np.finfo(np.float64).eps)))
    assert_close(found[:, 1:], np.zeros((len(found), 12)))


def test_other_sound_is_refused() -> None:
    with pytest.raises(InputError, match="int16"):
        mfcc(np.zeros(640, np.float32))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\(0,\)"):
        mfcc(np.zeros(0, np.int16))
