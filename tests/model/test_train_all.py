"""Presets, and the whole training on a few clips: cut off in the middle, gone on with, and then nothing left to do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from model.checkpoint import load_checkpoint, read_checkpoint_info
from model.data.corpus_build import CorpusConfig
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import ConfigError
from model.training.all_stages import TrainAll
from model.training.motion import MotionTrainConfig
from model.training.presets import FOLDER, PRESETS, TrainAllConfig, load_preset, motion_preset
from model.training.run import Run
from model.training.stage_runner import StageRecords, run_stages

CLIPS = 3


@pytest.mark.parametrize(("name", "millions"), [("lite", (3, 5)), ("ablation", (0.9, 1.1)), ("paper", (20, 23))])
def test_presets_have_the_size_they_say(name: str, millions: tuple[float, float]) -> None:
    unet = TemporalUNet(motion_preset(name).model)
    assert millions[0] <= sum(p.numel() for p in unet.parameters()) / 1e6 <= millions[1]


def test_lite_is_what_configs_are_by_default_and_every_file_is_a_preset() -> None:
    assert load_preset("lite") == TrainAllConfig()
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(PRESETS)


def test_ablation_is_lite_but_for_size_and_length() -> None:
    small, lite = motion_preset("ablation"), MotionTrainConfig()
    sizes = {"channels": lite.model.channels, "condition_size": 128, "context_size": 160}
    assert replace(small, run=lite.run, model=replace(small.model, **sizes)) == lite


def test_paper_is_trained_as_published() -> None:
    paper = motion_preset("paper")
    run, model = paper.run, paper.model
    assert (run.optimiser, run.learning_rate, run.betas, run.weight_decay) == ("adam", 2e-4, (0.9, 0.999), 0.0)
    assert (run.batch, run.steps, run.grad_clip, run.ema_decay) == (32, 200_000, 1.0, 0.999)
    assert (model.process, model.num_timesteps, model.pose_size) == ("ddpm", 50, 3)
    assert paper.augment.mirrored > 0 and paper.augment.posed > 0
    assert paper.augment.shifted > 0 and paper.augment.shift_frames == 1  # less than 50 ms, whole frames


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="no preset 'huge': choose one of lite, ablation, paper, smoke"):
        load_preset("huge")


@pytest.fixture
def everything(data_folder: Path, tmp_path: Path) -> TrainAll:
    """The whole training of the smoke preset on a few clips."""
    for split in ("train", "val"):
        (tmp_path / "grid" / split).mkdir(parents=True)
        for video in sorted((data_folder / "grid_s1" / split).glob("*.mp4"))[:CLIPS]:
            for file in (video, video.with_suffix(".align")):
                shutil.copy(file, tmp_path / "grid" / split)
    return TrainAll(
        data=tmp_path / "grid",
        out=tmp_path / "out",
        runs=tmp_path / "runs",
        config=load_preset("smoke"),
        face_landmarker=data_folder / "weights" / "face_landmarker.task",
        workers=1,
        tick=lambda _line: None,
    )


def run_all(everything: TrainAll) -> tuple[StageRecords, Sequence[str]]:
    said: list[str] = []
    return run_stages(everything.stages(), everything.runs, said.append), said


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_the_whole_training_goes_on_where_it_was_cut_off(everything: TrainAll, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Run.update

    def update_until(run: Run, loss: Tensor) -> None:
        if run.kind == "motion" and run.step == 3:
            raise KeyboardInterrupt
        update(run, loss)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "update", update_until)
        with pytest.raises(KeyboardInterrupt):
            run_all(everything)
    records, said = run_all(everything)
    assert all(line.endswith("up to date") for line in said[:7])
    assert said[7] == "[8/10] motion_teacher: goes on"
    assert all(record.output and record.wall_s > 0 for record in records.stages.values())
    student = load_checkpoint(everything.weights("motion"), kind="motion", config_cls=UNetConfig)
    assert student.config.process == "flow-map"
    teacher = read_checkpoint_info(everything.weights("motion_teacher"))
    assert student.metadata["teacher"] == teacher.content_hash == records.stages["motion_teacher"].output

    again, said = run_all(everything)
    assert all(line.endswith("up to date") for line in said) and again == records

    longer = replace(everything.config.distill, run=replace(everything.config.distill.run, steps=5))
    changed = replace(everything, config=replace(everything.config, distill=longer))
    _, said = run_all(changed)
    assert [line for line in said if "anew" in line] == ["[9/10] motion: begins anew, changed: config"]


def test_another_voice_corpus_changes_what_hears_it_and_nothing_else(everything: TrainAll) -> None:
    config = replace(everything.config, voices=CorpusConfig(seed=2))
    before, after = everything.stages(), replace(everything, config=config).stages()
    changed = [b.name for a, b in zip(before, after, strict=True) if a.inputs != b.inputs]
    assert changed == ["voices"]
    hearing = {stage.name for stage in after if "voices" in stage.needs}
    assert hearing == {"speech", "hearing", "sync_critic"}
