"""The shipped network cut in other ways than it was trained with."""

from __future__ import annotations

import numpy as np
import pytest

from model.capacity import syllables
from model.diffusion.generator import LOW_LATENCY, StreamTiming
from model.diffusion.unet import UNetConfig
from model.errors import ConfigError
from model.speech_to_motion import SpeechToMotion, motion_of_sound


@pytest.mark.parametrize(("hop", "ahead"), [(0, 1), (1, -1), (3, 2), (1, 4)])
def test_what_the_network_was_not_trained_with_is_refused(hop: int, ahead: int) -> None:
    with pytest.raises(ConfigError, match="may be 4 in all"):
        StreamTiming(hop_frames=hop, lookahead_frames=ahead).apply(UNetConfig())


def test_the_low_latency_profile_says_the_same_sooner() -> None:
    """Same sound, same mouth within what less hearing costs; nothing of it comes from sound beyond the look-ahead."""
    served, sooner = SpeechToMotion.load(), SpeechToMotion.load(timing=LOW_LATENCY)
    assert (sooner.hop_frames, sooner.lookahead_frames, sooner.hop_samples) == (1, 1, 640)
    sound = syllables(640 * 36, 16_000)
    usual, _ = motion_of_sound(sound, served)
    early, _ = motion_of_sound(sound, sooner)
    assert early.shape == usual.shape
    lips = served.smoother.space.lip_opening if served.smoother is not None else None
    assert lips is not None
    assert np.corrcoef(lips(usual), lips(early))[0, 1] > 0.8
    changed = sound.copy()
    changed[640 * 12 :] = 0.0
    cut, _ = motion_of_sound(changed[: 640 * 18], sooner)
    np.testing.assert_array_equal(cut[:11], early[:11])
    assert np.abs(cut[11:16] - early[11:16]).max() > 0
