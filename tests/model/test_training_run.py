"""Resuming equals going on; the phoneme inventory; batched normalising."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import ModelError
from model.speech.log_mel import LogMel, LogMelState
from model.speech.phonemes import GRID_LEXICON, PHONEMES, phoneme_from_ipa
from model.training.run import Run, RunConfig
from model.training.speech_data import normalise_batch


def train(folder: Path, stop_at: int | None = None) -> torch.nn.Module:
    torch.manual_seed(1)
    module = torch.nn.Linear(4, 3)
    run = Run(folder, "toy", module, RunConfig(steps=20, batch=8, learning_rate=0.05, save_every=5, warmup_steps=3))
    while not run.finished():
        x = torch.randn(8, 4, generator=run.generator())
        run.update((module(x) - x[:, :3] * 2).square().mean())
        if run.step == stop_at:
            break
    return module


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole = train(tmp_path / "a")
    train(tmp_path / "b", stop_at=12)  # saved at 10; 11 and 12 are lost and done again
    resumed = train(tmp_path / "b")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    module = torch.nn.Linear(1, 1)
    run = Run(tmp_path, "toy", module, RunConfig(steps=2, batch=1, learning_rate=0.1))
    with pytest.raises(ModelError, match="loss is nan at step 0"):
        run.update(module(torch.full((1, 1), float("nan"))).sum())


def test_the_lexicon_covers_grid_with_known_phonemes() -> None:
    assert len(GRID_LEXICON) == 51
    assert all(p in PHONEMES for phones in GRID_LEXICON.values() for p in phones)


@pytest.mark.parametrize(
    ("ipa", "name"), [("tʃ", "ch"), ("iː", "iy"), ("ˈɑːɹ", "aa"), ("ɔ̃", "nas"), ("ʁ", "kh"), ("_", "")]
)
def test_ipa_maps_to_our_phonemes(ipa: str, name: str) -> None:
    assert phoneme_from_ipa(ipa) == name


def test_an_unknown_symbol_is_an_error() -> None:
    with pytest.raises(KeyError):
        phoneme_from_ipa("Ж")


def test_batched_normalising_equals_streaming() -> None:
    log_mel = LogMel()
    audio = np.random.default_rng(0).normal(0, 0.05, 16_000).astype(np.float32)
    raw = log_mel.push_raw(audio, LogMelState())
    np.testing.assert_allclose(normalise_batch(raw[None])[0], log_mel.normalise(raw, LogMelState()), atol=1e-5)
