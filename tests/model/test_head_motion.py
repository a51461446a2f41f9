"""The head nods on stressed syllables, stays within bounds, and keeps still where nobody speaks."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import ConfigError
from model.motion.head_motion import HeadMotion, HeadMotionConfig, HeadMotionState

HEAD = HeadMotion()
YAW, PITCH, ROLL = range(3)


def syllables(frames: int, every: int = 16, rise: float = 0.3) -> np.ndarray:
    """Prosody (T, 4) of a voice that stresses a syllable every `every` frames."""
    out = np.zeros((frames, 4), np.float32)
    stressed = (np.arange(frames) % every) < 4
    out[:, 0] = -0.4 + rise * stressed
    out[:, 2:] = 1.0
    return out


def heads(prosody: np.ndarray, *, seed: int = 0, hop: int = 2, speaking: float = 1.0, first: int = 0) -> np.ndarray:
    state = HeadMotionState(seed)
    return np.concatenate([HEAD(prosody[i : i + hop], speaking, first + i, state) for i in range(0, len(prosody), hop)])


def test_what_is_no_speech_and_what_has_no_stress_moves_no_head() -> None:
    assert not heads(syllables(200), speaking=0.0).any()
    steady = syllables(200, rise=0.0)
    assert not heads(steady).any()
    unvoiced = syllables(200)
    unvoiced[:, 2] = 0.0
    assert not heads(unvoiced).any()


def test_a_stressed_syllable_is_followed_by_a_nod() -> None:
    prosody = syllables(240, every=64)
    pitch = heads(prosody)[:, PITCH]
    starts = np.flatnonzero(np.diff(prosody[:, 0]) > 0.1) + 1
    for start in starts:
        dip = int(pitch[start : start + 20].argmax())
        assert 2 <= dip <= 10 and pitch[start + dip] > 0.3
        assert pitch[start + 40] < 0.2 * pitch[start + dip]


def test_any_voice_stays_within_four_degrees_and_moves_smoothly() -> None:
    rng = np.random.default_rng(0)
    wild = rng.uniform(-1.0, 1.0, (2000, 4)).astype(np.float32)
    wild[:, 2] = 1.0
    made = heads(wild)
    assert np.abs(made).max() <= 4.0 and np.abs(made).max() > 0.5
    assert np.abs(np.diff(made, axis=0)).max() < 1.0  # degrees a frame


def test_hops_of_any_size_and_equal_seeds_agree_and_others_do_not() -> None:
    prosody = syllables(240)
    whole = heads(prosody)
    for hop in (1, 4, 240):
        np.testing.assert_array_equal(heads(prosody, hop=hop), whole)
    assert np.abs(heads(prosody, seed=1) - whole).max() > 0.2
    assert np.abs(heads(prosody, first=100) - whole).max() > 0.2  # absolute frames count


def test_later_sound_changes_no_earlier_head() -> None:
    prosody = syllables(100)
    changed = prosody.copy()
    changed[50:] = 0.0
    np.testing.assert_array_equal(heads(changed)[:50], heads(prosody)[:50])


def test_the_head_returns_when_speech_ends() -> None:
    state = HeadMotionState(3)
    spoken = HEAD(syllables(200), 1.0, 0, state)
    after = HEAD(np.full((150, 4), -1.0, np.float32), 0.0, 200, state)
    assert np.abs(spoken[-1]).max() > 0.1 > np.abs(after[-1]).max()


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="within 4 degrees"):
        HeadMotionConfig(nod_deg=9.0)
    with pytest.raises(ConfigError, match="must be positive"):
        HeadMotionConfig(turn_hz=0.0)
