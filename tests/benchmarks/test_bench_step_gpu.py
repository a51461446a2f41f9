"""The GPU benchmark: plain words without a GPU, and its measuring runs where there is none, on the CPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import bench_step_gpu
from model.pipeline import AvatarPipeline
from model.slots.pipeline import SlotPipeline


def test_without_a_gpu_it_says_so_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_step_gpu, "gpu_problem", lambda: "torch finds no CUDA device")
    assert bench_step_gpu.main([]) == 2
    assert capsys.readouterr().err == "no GPU to measure: torch finds no CUDA device\n"


def test_color_is_measured_for_each_size_and_number() -> None:
    figures = bench_step_gpu.measure_color(torch.device("cpu"), (16,), (1, 3), 2)
    assert {name.removesuffix("_median") for name in figures if name.endswith("_median")} == {
        "color_16_1_auto",
        "color_16_3_auto",
    }
    assert all(figure.value > 0 for figure in figures.values())


@pytest.mark.nightly
def test_the_step_is_measured_alone_and_as_served() -> None:
    host = AvatarPipeline.load(None, size=32, device=torch.device("cpu"))
    pipeline = SlotPipeline(host, device=torch.device("cpu"), most_avatars=1)
    figures = bench_step_gpu.measure_step(pipeline, (1,), 1)
    assert 0 < figures["step_1_replay_median"].value <= figures["step_1_served_median"].value * 5
    assert 0 < figures["step_1_held"].value <= 1
