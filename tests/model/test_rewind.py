"""Going back after an interrupt: the mouth goes on from the last shown frame, and comes to rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.audio_file import read_audio
from model.motion.space import MOUTH_CODES
from model.pipeline import AvatarPipeline

HOPS = 40


@pytest.fixture(scope="module")
def pipeline() -> AvatarPipeline:
    torch.set_num_threads(1)
    return AvatarPipeline.load(size=128, steps=2)


@pytest.fixture(scope="module")
def speech(data_folder: Path) -> NDArray[np.float32]:
    """(HOPS, hop samples) of somebody speaking without a pause at its start."""
    sound = read_audio(sorted((data_folder / "librispeech").glob("*.flac"))[0])
    return np.asarray(sound[8_000 : 8_000 + HOPS * 1280], np.float32).reshape(HOPS, 1280)


def mouths(pipeline: AvatarPipeline, state: object, hops: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mouth codes (2 per hop) of the model's motion."""
    made = [pipeline.motion(hop[None], [state]).face[0] for hop in hops]  # type: ignore[list-item]
    return np.concatenate(made)[:, MOUTH_CODES]


@pytest.mark.parametrize("hop", [18, 23, 29, 34])
def test_the_mouth_goes_on_from_the_last_shown_frame(
    pipeline: AvatarPipeline, speech: NDArray[np.float32], hop: int
) -> None:
    state = pipeline.new_state(5)
    shown = mouths(pipeline, state, speech[:hop])
    kept = state.snapshot()
    ahead = mouths(pipeline, state, speech[hop : hop + 3])  # made, and never shown
    silence = np.zeros((12, 1280), np.float32)
    after = mouths(pipeline, kept, silence)
    steps = np.linalg.norm(np.diff(shown, axis=0), axis=1)
    joint = float(np.linalg.norm(after[0] - shown[-1]))
    assert joint <= 1.25 * steps.max()
    assert joint <= 1.5 * max(float(np.linalg.norm(ahead[0] - shown[-1])), float(np.percentile(steps, 90)))
    rest = np.linalg.norm(after[-4:] - after[-1], axis=1)
    assert rest.max() < 0.1 * np.linalg.norm(shown - after[-1], axis=1).max()


def test_the_same_stream_goes_on_as_if_nothing_had_been_made(
    pipeline: AvatarPipeline, speech: NDArray[np.float32]
) -> None:
    straight = mouths(pipeline, pipeline.new_state(5), speech[:24])
    state = pipeline.new_state(5)
    mouths(pipeline, state, speech[:20])
    kept = state.snapshot()
    mouths(pipeline, state, -speech[20:24])
    np.testing.assert_allclose(mouths(pipeline, kept, speech[20:24]), straight[40:], atol=1e-5)
