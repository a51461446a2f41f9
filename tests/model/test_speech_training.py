"""The encoder's training from end to end, small: corpus, a few steps, an interruption, weights that serving loads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.data.clip_analysis import AnalysisSettings, analyse_clip
from model.data.corpus_build import RECIPE, CorpusConfig, build_corpus
from model.data.corpus_parts import RETIMED, REVOICED, read_corpus
from model.data.features import load_clips
from model.data.grid import list_grid
from model.data.grid_voices import held_out_retimed, held_out_revoiced
from model.data.preparing import prepare_clips
from model.errors import DataError
from model.speech.speech_model import SpeechConfig
from model.speech.whisper_encoder import EncoderConfig
from model.training.run import Run, RunConfig
from model.training.speech import SpeechTrainConfig, train_speech

pytestmark = pytest.mark.nightly
SMALL = CorpusConfig(
    spoken_minutes=1, noise_minutes=1, music_minutes=1, voices_per_clip=1, retimed_per_clip=1, part_minutes=1
)


@pytest.fixture(scope="module")
def grid(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grid")
    settings = AnalysisSettings(face_landmarker=data_folder / "weights" / "face_landmarker.task", with_flow=False)
    for split in ("train", "val"):
        source = tmp_path_factory.mktemp(split)
        for video in sorted((data_folder / "grid_s1" / split).glob("*.mp4"))[:3]:
            shutil.copy(video, source)
            shutil.copy(video.with_suffix(".align"), source)
        prepare_clips(list_grid(source), analyse_clip, settings, out / split, data_set="GRID")
    return out


@pytest.fixture(scope="module")
def corpus(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("voices")
    try:
        build_corpus(grid / "train", out, SMALL, workers=1, on_part=lambda *_: None)
    except DataError as error:
        pytest.skip(str(error))
    return out


def test_a_corpus_holds_every_kind_and_continues(grid: Path, corpus: Path) -> None:
    items = list(read_corpus(corpus))
    assert {i.info.kind for i in items} == {"filmed", "spoken", "noise"}
    filmed = [i for i in items if i.info.kind == "filmed"]
    assert len(filmed) == 12 and sum(i.info.voice.endswith(REVOICED) for i in filmed) == 3
    for item in filmed:
        same = next(i for i in filmed if i.info.key == item.info.key)
        assert len(item.audio) == len(same.audio)
        changed = item.phonemes[item.phonemes != same.phonemes]  # of a first phone that starts late
        assert not len(changed) or (item.info.voice.endswith(RETIMED) and not changed.any())
    assert sum(i.info.voice.endswith(RETIMED) for i in filmed) == 3
    before = json.loads((corpus / "manifest.json").read_text())
    (corpus / "noise-0000.safetensors").unlink()
    made = []
    build_corpus(grid / "train", corpus, SMALL, workers=1, on_part=lambda *part: made.append(part[2]))
    assert made == ["noise-0000.safetensors"]
    after = json.loads((corpus / "manifest.json").read_text())
    assert after["parts"].keys() == before["parts"].keys()
    with pytest.raises(DataError, match="voices_per_clip"):
        build_corpus(grid / "train", corpus, replace(SMALL, voices_per_clip=2), workers=1, on_part=lambda *_: None)


def test_a_corpus_without_retimed_clips_is_given_them(grid: Path, corpus: Path, tmp_path: Path) -> None:
    grown = tmp_path / "voices"
    shutil.copytree(corpus, grown)
    (grown / "retimed-0000.safetensors").unlink()
    recipe = json.loads((grown / RECIPE).read_text())
    del recipe["retimed_per_clip"]
    (grown / RECIPE).write_text(json.dumps(recipe))
    made = []
    build_corpus(grid / "train", grown, SMALL, workers=1, on_part=lambda *part: made.append(part[2]))
    assert made == ["retimed-0000.safetensors"]


def test_held_out_voices_keep_the_length_of_the_clips_and_follow_from_the_seed(grid: Path) -> None:
    clips = load_clips(grid / "val")
    try:
        spoken = held_out_retimed(clips)
    except DataError as error:
        pytest.skip(str(error))
    revoiced = held_out_revoiced(clips, 5)
    assert spoken.keys() == revoiced.keys() == {c.key for c in clips}
    for clip in clips:
        assert len(spoken[clip.key]) == len(revoiced[clip.key]) == len(clip.audio)
    again, other = held_out_revoiced(clips[:1], 5), held_out_revoiced(clips[:1], 6)
    key = clips[0].key
    assert (again[key] == revoiced[key]).all() and not (other[key] == revoiced[key]).all()


def test_an_interrupted_training_ends_as_an_unbroken_one(
    grid: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SpeechConfig(encoder=EncoderConfig(width=64, num_heads=1, num_layers=2))
    run = RunConfig(steps=6, batch=8, learning_rate=1e-3, warmup_steps=2, save_every=3)
    config = SpeechTrainConfig(run=run, model=model)
    whole = train_speech(grid, corpus, tmp_path / "a.safetensors", config, tmp_path / "a")
    update = Run.update

    def update_until_four(run: Run, loss: Tensor) -> None:
        if run.step == 4:
            raise KeyboardInterrupt
        update(run, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "update", update_until_four)
        with pytest.raises(KeyboardInterrupt):
            train_speech(grid, corpus, tmp_path / "b.safetensors", config, tmp_path / "b")
    assert train_speech(grid, corpus, tmp_path / "b.safetensors", config, tmp_path / "b") == whole
    saved = load_checkpoint(tmp_path / "b.safetensors", kind="speech", config_cls=SpeechConfig)
    assert saved.config == model and "GRID" in saved.metadata["data"]
