"""The renderer's benchmark: what its ratios mean, and that it runs."""

from __future__ import annotations

import pytest

from kernels.native import EXACT, INSTRUCTION_SETS, cpu_info
from kernels.ray_march.synthetic import head_field, head_frame
from model.evaluation import kernel_bench
from model.evaluation.kernel_bench import LAYERS, level_figures, measure_one_run, missing_levels, ratio_figures


def least_times(level: str, per_multiply_add_ms: float) -> dict[str, float]:
    parts = {f"{part}_{level}": 1.0 for part in kernel_bench.PARTS}
    return parts | {
        f"frame_{level}": 8.0,
        f"mlp_{level}": 4.0,
        f"per_multiply_add_{level}": per_multiply_add_ms,
        "eager_float32": 25.0,
        "eager_bfloat16": 10.0,
    }


def test_shares_count_the_multiply_adds_that_are_done() -> None:
    exact = level_figures("avx2", least_times("avx2", 4.0 / sum(LAYERS)), samples=1, served=False)
    assert exact["share_of_peak_avx2"].value == pytest.approx(0.5)
    assert exact["mlp_share_of_peak_avx2"].value == pytest.approx(1.0)
    fixed = level_figures("avx2i16", least_times("avx2i16", 4.0 / sum(LAYERS)), samples=1, served=False)
    assert "peak_avx2i16" in fixed
    assert not any("share" in name for name in fixed)  # it leaves out zeros, and nobody counts them


def test_eager_is_compared_with_features_and_mlp() -> None:
    figures = level_figures("avx512bf16", least_times("avx512bf16", 1e-6), samples=1, served=True)
    assert figures["eager_float32_over_avx512bf16"].value == pytest.approx(25.0 / 5.0)
    assert figures["eager_bfloat16_over_avx512bf16"].missed  # 2 of 6
    other = level_figures("avx512bf16", least_times("avx512bf16", 1e-6), samples=1, served=False)
    assert other["eager_bfloat16_over_avx512bf16"].goal is None


def test_goals_between_levels_hold_where_bfloat16_does() -> None:
    common = {"large": 30.0, "one_thread_wall": 8.0, "two_threads_wall": 4.0}
    frames = {"frame_avx2": 32.0, "frame_avx2i16": 16.0, "frame_avx512": 12.0, "frame_avx512bf16": 8.0}
    figures = ratio_figures(tuple(name.removeprefix("frame_") for name in frames), "avx2i16", frames | common)
    assert figures["frame_512_over_256"].value == pytest.approx(30.0 / 16.0)
    assert figures["avx2_over_avx512bf16"].missed
    assert figures["avx512_over_avx512bf16"].goal is not None
    assert not figures["avx512_over_avx512bf16"].missed
    assert not figures["two_threads_speedup"].missed
    without = ratio_figures(("avx2", "avx2i16"), "avx2i16", frames | common)
    assert without["avx2_over_avx2i16"].goal is None


def test_missing_levels_are_the_others() -> None:
    assert sorted((*missing_levels(), *cpu_info().instruction_sets)) == sorted(INSTRUCTION_SETS)


@pytest.mark.nightly
def test_it_runs_on_every_level_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute on a busy machine: torch in a second process."""
    for name, pixels in (("SIZE_PX", 48), ("LARGE_PX", 96), ("REFERENCE_PX", 24)):
        monkeypatch.setattr(kernel_bench, name, pixels)
    figures = measure_one_run(head_field(plane_side=32, grid=32), head_frame, repeats=2)
    assert all(figure.value > 0 for figure in figures.values())
    for level in EXACT & set(cpu_info().instruction_sets[1:]):
        assert 0 < figures[f"share_of_peak_{level}"].value < 1.5
