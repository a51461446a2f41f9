"""The mouth reads speech, on real video that was never trained on: a golden check on a few GRID clips.

Landmarks are tracked here, so this also covers `prepare grid`. The full figures are in
benchmarks/results/lips_grid.json, by `nerf-lipsync evaluate lips`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.clip_analysis import AnalysisSettings, analyse_clip
from model.data.features import load_clips
from model.data.grid import list_grid
from model.data.preparing import prepare_clips
from model.errors import DataError
from model.evaluation.lips import correlation_figures, lip_clip
from model.motion.space import load_motion_space
from model.motion_stack import load_motion_stack
from model.speech_to_motion import SpeechToMotion
from model.training.motion_check import mean_r
from model.training.motion_targets import load_motion

CLIPS = 6


@pytest.fixture(scope="module")
def prepared(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("clips")
    for video in sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))[::7][:CLIPS]:
        shutil.copy(video, source)
        shutil.copy(video.with_suffix(".align"), source)
    (source / "broken.mp4").write_bytes(b"not a video")
    out = tmp_path_factory.mktemp("prepared") / "val"
    settings = AnalysisSettings(face_landmarker=data_folder / "weights" / "face_landmarker.task", with_flow=False)
    manifest = prepare_clips(list_grid(source), analyse_clip, settings, out, data_set="GRID")
    assert manifest.rejects == {"not a video": 1}
    return out


def test_lips_follow_the_words_not_the_loudness(prepared: Path) -> None:
    drive = SpeechToMotion.load(num_steps=2)
    motion = load_motion(prepared)
    clips = [lip_clip(c, motion[c.key], drive) for c in load_clips(prepared)]
    assert len(clips) == CLIPS
    figures = correlation_figures(clips, drive, load_motion_space())
    assert figures["lip_opening_r"].value >= 0.75
    assert figures["drop_with_shuffled_phonemes"].value >= 0.3
    assert figures["best_lag_frames"].value == 0


def test_the_vae_keeps_lip_opening(prepared: Path) -> None:
    space, vae = load_motion_space(), load_motion_stack().vae
    motion = np.stack(list(load_motion(prepared).values()))
    with torch.inference_mode():
        decoded = vae.decode(vae.encode(torch.from_numpy(motion))).numpy()
    assert mean_r(space.lip_opening(motion), space.lip_opening(decoded)) >= 0.995


def test_an_empty_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nerf-lipsync prepare grid"):
        load_clips(tmp_path)
