"""The critic's network, its training on planted motion, and its scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.errors import CheckpointError, InputError
from model.evaluation.sync_critic import CRITIC_METRICS, SHIFTS, CriticPair, cut_shifted, score_motion, shifts_found
from model.motion.sync_critic import (
    MOTION_WINDOW_FRAMES,
    SOUND_WINDOW_COLUMNS,
    CriticConfig,
    LoadedCritic,
    SyncCritic,
    load_sync_critic,
    save_sync_critic,
)
from model.speech.log_mel import LogMel
from model.training import sync_critic as training
from model.training.run import Run, RunConfig
from model.training.sync_critic import (
    CriticTrainConfig,
    SyncBank,
    SyncSpoil,
    critic_loss,
    draw_clips,
    spoil_motion,
    train_sync_critic,
    validate,
)
from tests.support.closeness import assert_close

Array = NDArray[np.float32]
SMALL = CriticConfig(first_width=16, width=16, embedding=16)
CLEAN = SyncSpoil(coloured_share=0, mixed_share=0, hidden_bands=0, gain=0, code_gain=0, offset=0, jitter=0)
CLEAN = replace(CLEAN, hidden_code_share=0, hidden_brow_share=0)


def small_config(steps: int = 6, **changes: object) -> CriticTrainConfig:
    run = RunConfig(steps=steps, batch=4, learning_rate=5e-3, warmup_steps=5, save_every=3, ema_decay=0.9)
    return replace(CriticTrainConfig(run=run, model=SMALL, spoil=CLEAN), **changes)  # type: ignore[arg-type]


def planted_bank(clips: int, frames: int, seed: int) -> SyncBank:
    """Sound that follows the motion: every band is a mixture of codes, four columns to a frame."""
    motion = np.random.default_rng(seed).normal(0, 1, (clips, frames, 20)).astype(np.float32)
    mixture = np.random.default_rng(99).normal(0, 0.3, (20, 80))
    raw = np.repeat(motion @ mixture - 3, 4, axis=1)
    return SyncBank(motion, [[sound.astype(np.float16)] for sound in raw])


@pytest.fixture
def critic() -> SyncCritic:
    torch.manual_seed(0)
    return SyncCritic(SMALL).eval()


def changed(before: torch.Tensor, after: torch.Tensor) -> list[int]:
    return torch.nonzero((before - after).abs().amax((0, 2)) > 1e-7).flatten().tolist()


def test_windows_see_what_they_say(critic: SyncCritic) -> None:
    assert (MOTION_WINDOW_FRAMES, SOUND_WINDOW_COLUMNS) == (9, 38)
    with torch.inference_mode():
        motion, mel = torch.randn(1, 30, 32), torch.randn(1, 120, 80)
        seen, heard = critic.see(motion), critic.hear(mel)
        assert seen.shape == (1, 22, 16) and heard.shape == (1, 21, 16)
        assert_close(seen.norm(dim=-1).numpy(), np.ones((1, 22)))
        assert_close(heard.norm(dim=-1).numpy(), np.ones((1, 21)))
        motion[0, 12] += 1
        mel[0, 60] += 1
        assert changed(seen, critic.see(motion)) == list(range(4, 13))
        assert changed(heard, critic.hear(mel)) == list(range(6, 16))  # 4 w <= 60 <= 4 w + 37
        lids = motion.clone()
        lids[..., 20:] += 1
        assert_close(critic.see(lids).numpy(), critic.see(motion).numpy())


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    full = SyncCritic(CriticConfig())
    full.code_deviation.fill_(0.5)
    path = tmp_path / "critic.safetensors"
    digest = save_sync_critic(path, full, {"data": "none"})
    loaded = load_sync_critic(path)
    assert loaded.content_hash == digest and path.stat().st_size < 2_000_000
    motion = torch.randn(1, 20, 20)
    with torch.inference_mode():
        assert_close(loaded.model.see(motion).numpy(), full.eval().see(motion).numpy(), precision="float16")
    assert not any(p.requires_grad for p in loaded.model.parameters())
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_sync_critic(tmp_path / "other.safetensors")


def test_the_contrasts_of_a_critic_that_knows_nothing_are_logarithms(critic: SyncCritic) -> None:
    for tower in (critic.motion, critic.sound):
        torch.nn.init.zeros_(tower[-1].weight)  # type: ignore[arg-type]
    motion, mel = draw_clips(planted_bank(3, 25, 0), small_config(), np.random.default_rng(0))
    _, parts = critic_loss(critic, motion, mel, small_config())
    windows = 25 - 9
    shifts = [[min(w, reach) + min(windows - 1 - w, reach) + 1 for w in range(windows)] for reach in (15, 2)]
    assert parts["wide"] == pytest.approx(np.log(shifts[0]).mean(), abs=1e-4)
    assert parts["near"] == pytest.approx(np.log(shifts[1]).mean(), abs=1e-4)
    assert parts["other"] == pytest.approx(np.log(3 * windows / 4), abs=1e-4)


def test_it_learns_planted_motion_and_finds_it_in_step() -> None:
    torch.manual_seed(1)
    critic, config = SyncCritic(SMALL), small_config()
    optimiser = torch.optim.Adam(critic.parameters(), 5e-3)
    bank, held_out = planted_bank(32, 50, 1), planted_bank(8, 50, 2)
    before = validate(critic, held_out)
    for step in range(80):
        motion, mel = draw_clips(bank, config, np.random.default_rng(step))
        loss, _ = critic_loss(critic, motion, mel, config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = validate(critic, held_out)
    assert after["val_in_place"] == 1.0 and critic.training
    assert after["val_distance"] < before["val_distance"]
    late = replace(held_out, motion=np.roll(held_out.motion, -1, 1))
    assert validate(critic, late)["val_in_place"] == 0.0 and validate(critic, late)["val_within_one"] == 1.0


def test_spoiling_keeps_timing_and_repeats() -> None:
    bank, config = planted_bank(6, 30, 0), small_config(spoil=SyncSpoil(mixed_share=0))
    first = draw_clips(bank, config, np.random.default_rng(5))
    again = draw_clips(bank, config, np.random.default_rng(5))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert first[0].shape == (4, 30, 20) and first[1].shape == (4, 120, 80)
    clean = spoil_motion(bank.motion, bank.deviation, CLEAN, np.random.default_rng(0))
    assert_close(clean, bank.motion)
    only_offset = spoil_motion(bank.motion, bank.deviation, replace(CLEAN, offset=0.3), np.random.default_rng(0))
    assert_close(np.diff(only_offset, axis=1), np.diff(bank.motion, axis=1), precision="float16")
    hidden = spoil_motion(bank.motion, bank.deviation, replace(CLEAN, hidden_brow_share=1.0), np.random.default_rng(0))
    assert not hidden[..., 16:20].any() and hidden[..., :16].all()


def test_an_interrupted_training_ends_as_an_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "load_sync_bank", lambda folder, *_: planted_bank(6, 40, len(folder.name)))
    monkeypatch.setattr(training, "CHECK_EVERY", 2)
    monkeypatch.setattr(training, "LOG_EVERY", 2)
    grid, config, update = tmp_path / "grid", small_config(steps=8), Run.update
    whole = train_sync_critic(grid, grid, tmp_path / "a.safetensors", config, tmp_path / "a")

    def until_five(run: Run, loss: torch.Tensor) -> None:
        if run.step == 5:
            raise KeyboardInterrupt
        update(run, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "update", until_five)
        with pytest.raises(KeyboardInterrupt):
            train_sync_critic(grid, grid, tmp_path / "b.safetensors", config, tmp_path / "b")
    assert train_sync_critic(grid, grid, tmp_path / "b.safetensors", config, tmp_path / "b") == whole
    assert "val_in_place" in (tmp_path / "b" / "curve.jsonl").read_text()


@dataclass(frozen=True)
class Planted:
    """Knows motion by its first code and sound by each frame's first sample; `lag` makes it err."""

    lag: int = 0
    window_frames: int = 9

    def see(self, frames: Array, windows: int) -> Array:
        return _code(frames[:windows, 0] + self.lag)

    def hear(self, audio: NDArray[np.int16], windows: int) -> Array:
        return _code(audio[::640][:windows].astype(np.float32))


def _code(index: Array) -> Array:
    """Neighbouring indices are near, all others far."""
    return np.exp(-np.square(index[:, None] - np.arange(-5, 90)) / 2).astype(np.float32)


def planted_clip(frames: int = 60) -> tuple[Array, NDArray[np.int16]]:
    motion = np.zeros((frames, 32), np.float32)
    motion[:, 0] = np.arange(frames)
    return motion, np.repeat(np.arange(frames, dtype=np.int16), 640)


@pytest.mark.parametrize("late", SHIFTS)
def test_cut_clips_hear_real_sound_late(late: int) -> None:
    motion, sound = cut_shifted(*planted_clip(), late)
    assert len(motion) == 50 and len(sound) == 50 * 640
    assert (motion[:, 0] - sound[::640] == late).all()


def test_shifts_are_found_and_errors_counted() -> None:
    motion, sound = planted_clip()
    found = shifts_found(Planted(), [motion, motion], [sound, sound])  # type: ignore[arg-type]
    assert found["critic_shift_exact"].tolist() == found["critic_shift_within_one"].tolist() == [1.0, 1.0]
    off_by_one = shifts_found(Planted(lag=1), [motion], [sound])  # type: ignore[arg-type]
    assert off_by_one["critic_shift_exact"].tolist() == [0.0]
    assert off_by_one["critic_shift_within_one"].tolist() == [1.0]
    assert off_by_one["critic_shift_followed"].tolist() == [1.0]  # the error is that of the clip


def test_scores_of_truth_and_of_late_sound() -> None:
    motion, sound = planted_clip()
    late_motion, late_sound = cut_shifted(motion, sound, 3)
    scores = score_motion(Planted(), [motion, late_motion], [sound, late_sound])  # type: ignore[arg-type]
    assert set(scores) == {m.name for m in CRITIC_METRICS}
    assert scores["critic_late_frames"].tolist() == [0.0, 3.0]
    assert scores["critic_in_step"].tolist() == [1.0, 0.0]
    assert scores["critic_d"] == pytest.approx([0, 0], abs=1e-4)
    assert scores["critic_d_in_place"][0] == pytest.approx(0, abs=1e-4) and scores["critic_d_in_place"][1] > 1
    with pytest.raises(InputError, match="got 1 and 2"):
        score_motion(Planted(), [motion], [sound, sound])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="10 frames by 0"):
        cut_shifted(motion[:10], sound, 0)


def test_the_real_pair_hears_a_clip_and_refuses_what_it_cannot_judge(critic: SyncCritic) -> None:
    pair = CriticPair(LoadedCritic(critic, "none"), LogMel())
    sound = np.random.default_rng(0).normal(0, 2000, 40 * 640).astype(np.int16)
    motion = np.random.default_rng(1).normal(0, 1, (40, 32)).astype(np.float32)
    assert pair.see(motion, 31).shape == pair.hear(sound, 31).shape == (31, 16)
    scores = score_motion(pair, [motion], [sound])
    again = score_motion(pair, [motion], [sound])
    assert all(np.array_equal(scores[name], again[name]) for name in scores)
    with pytest.raises(InputError, match="20 windows are too few"):
        score_motion(pair, [motion[:29]], [sound])
    with pytest.raises(InputError, match=r"got \(40, 16\)"):
        score_motion(pair, [motion[:, :16]], [sound])
    motion[3] = np.nan
    with pytest.raises(InputError, match="NaN or infinity in 1 frames"):
        score_motion(pair, [motion], [sound])
