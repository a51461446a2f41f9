"""`evaluate sync`: rows, goals and refusals, with a planted pair; the shipped critic on real clips."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.clip_analysis import AnalysisSettings, analyse_clip
from model.data.features import load_clips
from model.data.grid import list_grid
from model.data.preparing import prepare_clips
from model.errors import InputError
from model.evaluation.report import ReportTable
from model.evaluation.sync import OTHER_SOUND, SHIFTED, TRUTH, sync_results, sync_table
from model.evaluation.sync_critic import load_critic, score_motion, shifts_found
from model.training.motion_targets import load_motion
from stream_server.cli import main


class PlantedPair:
    """Motion's first code and the first sample of each frame name the same moment, 0..99 of one of ten clips."""

    window_frames = 9
    critic = type("Critic", (), {"content_hash": "planted"})

    def see(self, frames: NDArray[np.float32], windows: int) -> NDArray[np.float32]:
        return _moments(frames[:windows, 0])

    def hear(self, audio: NDArray[np.int16], windows: int) -> NDArray[np.float32]:
        return _moments(audio[::640][:windows].astype(np.float32))


def _moments(index: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.exp(-np.square(index[:, None] - np.arange(1000)) / 2).astype(np.float32)


@dataclass(frozen=True)
class Clip:
    """What `sync_table` looks at."""

    key: str
    audio: NDArray[np.int16]


def planted(count: int) -> tuple[list[Clip], list[NDArray[np.float32]]]:
    moments = [np.arange(60) + 100 * i for i in range(count)]
    motion = [np.pad(m[:, None].astype(np.float32), ((0, 0), (0, 31))) for m in moments]
    return [Clip(f"clip{i}", np.repeat(m.astype(np.int16), 640)) for i, m in enumerate(moments)], motion


def test_truth_is_in_step_its_controls_are_not_and_goals_are_for_truth() -> None:
    clips, motion = planted(3)
    table = sync_table("planted", clips, motion, PlantedPair(), None)  # type: ignore[arg-type]
    assert table.methods == (TRUTH, SHIFTED, OTHER_SOUND) and table.truth == TRUTH
    assert table.values[TRUTH]["critic_in_step"].tolist() == [1.0, 1.0, 1.0]
    assert table.values[TRUTH]["critic_shift_exact"].tolist() == [1.0, 1.0, 1.0]
    assert table.values[SHIFTED]["critic_late_frames"].tolist() == [5.0, 5.0, 5.0]
    assert (table.values[SHIFTED]["critic_d"] < 0.01).all()  # a shift does not change the least distance
    assert (table.values[OTHER_SOUND]["critic_c"] < 0.01).all()
    results = sync_results([ReportTable(name="grid_val", table=table, tested=TRUTH)], command="c", data="d")
    assert results.figures["grid_val.truth.critic_shift_exact"].goal == 0.75
    assert results.figures["grid_val.truth.critic_shift_within_one"].value == 1.0 and not results.missed
    again = sync_table("planted", clips, motion, PlantedPair(), None)  # type: ignore[arg-type]
    for method in table.methods:
        assert all(np.array_equal(table.values[method][m], again.values[method][m]) for m in table.values[method])


def test_one_clip_has_no_other_sound() -> None:
    clips, motion = planted(1)
    with pytest.raises(InputError, match="two or more clips to lend each other's sound, got 1"):
        sync_table("planted", clips, motion, PlantedPair(), None)  # type: ignore[arg-type]


def test_the_command_says_in_one_line_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    critic = tmp_path / "critic.safetensors"
    assert main(["evaluate", "sync", "--grid", str(tmp_path), "--critic", str(critic), "--no-served"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "critic.safetensors: no such checkpoint" in message
    assert main(["train", "sync", "--grid", str(tmp_path), "--corpus", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "no prepared clips in" in capsys.readouterr().err


@pytest.mark.nightly
def test_the_shipped_critic_finds_shifts_of_real_clips(data_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for video in sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))[:8]:
        shutil.copy(video, source)
        shutil.copy(video.with_suffix(".align"), source)
    settings = AnalysisSettings(face_landmarker=data_folder / "weights" / "face_landmarker.task", with_flow=False)
    prepare_clips(list_grid(source), analyse_clip, settings, tmp_path / "val", data_set="GRID")
    motion, clips, pair = load_motion(tmp_path / "val"), load_clips(tmp_path / "val"), load_critic()
    seen, sounds = [motion[c.key] for c in clips], [c.audio for c in clips]
    assert shifts_found(pair, seen, sounds)["critic_shift_within_one"].mean() >= 0.95
    truth, other = score_motion(pair, seen, sounds), score_motion(pair, seen, [*sounds[1:], sounds[0]])
    assert (truth["critic_c"] > other["critic_c"]).mean() >= 0.9
