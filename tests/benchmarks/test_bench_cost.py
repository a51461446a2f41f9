"""The cost of a training sample: measured on the code that trains, and weighed as the training is."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import pytest
import torch

from benchmarks import bench_cost
from model.training.motion_items import MotionItems
from model.training.presets import motion_preset


def items(frames: int = 60) -> MotionItems:
    """One filmed clip of noise."""
    return MotionItems(
        committed=torch.randn(frames, 256).half(),
        edge=torch.randn(frames, 256).half(),
        motion=torch.randn(frames, 32) * 0.1,
        flow=torch.zeros(frames, 78, 2).half(),
        flow_confidence=torch.zeros(frames, 78).half(),
        start=torch.tensor([0]),
        frames=torch.tensor([frames]),
        phase=torch.tensor([0]),
        style=torch.tensor([0]),
    )


def test_a_steps_cost_is_the_mean_of_a_whole_training(tmp_path: Path) -> None:
    config = motion_preset("smoke")
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, steps=401))
    figures = bench_cost.motion(config, items(), tmp_path, 2)
    early, late = (figures[f"cpu_per_step_{kind}"].value for kind in ("true_past", "own_past"))
    assert 0 < early < late  # the model's own past is sampled first
    share = math.ceil(config.augment.own_history_from * config.run.steps) / config.run.steps
    assert figures["cpu_per_step"].value == pytest.approx(share * early + (1 - share) * late)
    assert (figures["steps"].value, figures["batch"].value) == (config.run.steps, config.run.batch)
    assert not list(tmp_path.glob("*.safetensors"))  # nothing that it makes is kept


def test_only_processor_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", iter((1.0, 3.5)).__next__)
    assert bench_cost.timed(lambda: "done") == ("done", 2.5)


def test_memory_counts_every_tensor() -> None:
    frames = 60
    row = 2 * 256 * 2 + 32 * 4 + 78 * 2 * 2 + 78 * 2
    assert bench_cost.size_of(items(frames)) == frames * row + 4 * 8
