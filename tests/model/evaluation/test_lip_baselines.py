"""Controls learn exactly what they are allowed to learn, on sound and motion made up for it."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import DataError
from model.evaluation.lip_baselines import (
    EnergyMap,
    FrameRegressor,
    Retrieval,
    SpokenClip,
    StaticMouth,
    fit_controls,
    frame_energy,
)
from model.evaluation.lip_metrics import pearson
from tests.support.closeness import assert_close

BANDS = 8


def clips(count: int, seed: int = 0, frames: int = 40) -> list[SpokenClip]:
    """Mouth codes that follow the second band of the frame before, and code 3 that follows loudness."""
    rng = np.random.default_rng(seed)
    out = []
    for index in range(count):
        mel = rng.standard_normal((frames, 4 * BANDS)).astype(np.float32)
        energy = rng.uniform(-6, 0, frames).astype(np.float32)
        motion = np.zeros((frames, 32), np.float32)
        columns = mel.reshape(frames, 4, BANDS).mean(1)
        motion[1:, :16] = columns[:-1, 1:2] * np.linspace(0.5, 2, 16)
        motion[:, 3] = 2.0 + 0.5 * energy
        motion[:, 20] = 0.7  # lids: no control moves them
        out.append(SpokenClip(f"clip{index}", motion, energy, mel, mel @ rng.standard_normal((32, 12), np.float32)))
    return out


def test_energy_of_a_frame() -> None:
    sound = np.concatenate([np.full(640, 0.1), np.zeros(640), np.full(320, 0.2)]).astype(np.float32)
    wanted = np.log10([0.01 + 1e-6, 1e-6, 0.02 + 1e-6, 1e-6])
    assert_close(frame_energy(sound, 4), wanted)


def test_the_static_mouth_is_the_mean_and_leaves_the_eyes_alone() -> None:
    train = clips(4)
    made = StaticMouth.fit(train).motion(train[0])
    assert made.shape == (40, 32)
    assert_close(made[7, :16], np.concatenate([c.motion for c in train])[:, :16].mean(0))
    assert not made[:, 16:].any()


def test_energy_finds_the_line_and_nothing_else() -> None:
    fitted = EnergyMap.fit(clips(6))
    (test,) = clips(1, seed=9)
    assert_close(fitted.motion(test)[:, 3], test.motion[:, 3])
    assert abs(pearson(fitted.motion(test)[:, 0], test.motion[:, 0])) < 0.4


def test_retrieval_gives_a_known_clip_its_own_motion() -> None:
    train = clips(5)
    made = Retrieval.fit(train).motion(train[2])
    assert_close(made[:, :16], train[2].motion[:, :16])


def test_retrieval_copies_frames_of_the_training_clips() -> None:
    train, (test,) = clips(5), clips(1, seed=9)
    known = np.concatenate([c.motion for c in train])[:, :16]
    made = Retrieval.fit(train).motion(test)[:, :16]
    assert np.abs(made[:, None] - known[None]).max(2).min(1).max() < 1e-6


def test_the_regressor_reads_sound_that_others_cannot_and_repeats_itself() -> None:
    train, (test,) = clips(40), clips(1, seed=9)
    fitted, again = (FrameRegressor.fit(train, "mel", seed=3, steps=250) for _ in range(2))
    made = fitted.motion(test)
    assert pearson(made[1:, 0], test.motion[1:, 0]) > 0.7
    assert made[:, 3].mean() == pytest.approx(test.motion[:, 3].mean(), abs=0.5)  # in the motion's own units
    assert np.array_equal(made, again.motion(test))


def test_no_clips_no_controls() -> None:
    with pytest.raises(DataError, match="GRID train"):
        fit_controls([])
