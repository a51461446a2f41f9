"""The CPU ray marcher in one run: its levels against each other, eager torch and the core's measured peak.

Everything is timed in turn and the least of the turns counts, so that a neighbour's load hits all alike. One thread is
timed by its CPU time, two threads by wall time.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kernels.native import INSTRUCTION_SETS, cpu_info, spin_multiply_adds
from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from kernels.ray_march.calibration import levels_by_speed
from kernels.ray_march.reference import render_reference
from model.evaluation.eager_field import EagerField, frame_samples
from model.results import Figure

FrameMaker = Callable[[int], FrameInputs]
Least = dict[str, float]

SIZE_PX, LARGE_PX, REFERENCE_PX = 256, 512, 96
PARTS = ("occupancy", "march", "features", "mlp", "composite")
LAYERS = (48 * 64, 64 * 64, 64 * 4)
"""Multiply-adds of a sample. Fixed point does fewer: the first layer is in its planes, and zeros are left out of the
second, how many depends on the picture."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EAGER_EVERY = 5
IN_A_ROW = 3  # frames by one and by two threads: a core that slept finds its caches cold
SPIN_ROUNDS = 200_000  # some milliseconds: what surrounds them counts for nothing
GOAL_OVER_EAGER, GOAL_SHARE = 6.0, 0.45
GOALS_OVER_BFLOAT16 = {"avx512": 1.8, "avx2": 3.5}
GOAL_TWO_THREADS, GOAL_LARGE, GOAL_MEMORY_MB = 1.8, 4.4, 60.0


def missing_levels() -> list[str]:
    """Levels that this machine does not have: nothing is said about them."""
    return [name for name in INSTRUCTION_SETS if name not in cpu_info().instruction_sets]


def measure_one_run(field: FieldArrays, make_frame: FrameMaker, repeats: int) -> dict[str, Figure]:
    """All figures. Takes torch's threads down to one."""
    torch.set_num_threads(1)
    levels = cpu_info().instruction_sets[1:] or cpu_info().instruction_sets
    served = levels_by_speed()[0]
    samples = frame_samples(field, make_frame(SIZE_PX))
    least = measure_least(field, make_frame, levels, served, repeats) | measure_eager(
        field, make_frame(SIZE_PX), torch.tensor(samples.points), max(1, repeats // EAGER_EVERY)
    )
    figures = eager_figures(field, make_frame(REFERENCE_PX), least)
    for level in levels:
        figures |= level_figures(level, least, len(samples.points), served=level == served)
    figures |= ratio_figures(levels, served, least)
    memory = memory_mb(field, make_frame(SIZE_PX), served)
    if memory is not None:
        figures[f"memory_{served}"] = Figure(value=memory, unit="MB", goal=GOAL_MEMORY_MB, better="lower")
    return figures


def measure_least(
    field: FieldArrays, make_frame: FrameMaker, levels: tuple[str, ...], served: str, repeats: int
) -> Least:
    """Least times, ms, by name: frames and parts of each level, 512 px and two threads of the served one, a
    multiply-add at the core's peak."""
    frame, large = make_frame(SIZE_PX), make_frame(LARGE_PX)
    marchers = {level: RayMarcher(field, instruction_set=level) for level in levels}
    two = RayMarcher(field, threads=2, instruction_set=served)
    least: Least = defaultdict(lambda: float("inf"))
    for _ in range(repeats):
        for level, marcher in marchers.items():
            _keep(least, f"frame_{level}", partial(marcher.render, frame))
            marcher.render(frame, profile=True)
            for part in PARTS:
                value = getattr(marcher.render_stats, f"{part}_ms")
                least[f"{part}_{level}"] = min(least[f"{part}_{level}"], value)
            start = time.thread_time()
            done = spin_multiply_adds(level, SPIN_ROUNDS)
            each = (time.thread_time() - start) * 1e3 / done
            least[f"per_multiply_add_{level}"] = min(least[f"per_multiply_add_{level}"], each)
        _keep(least, "large", lambda: marchers[served].render(large))
        for name, marcher in (("one_thread_wall", marchers[served]), ("two_threads_wall", two)):
            for _ in range(IN_A_ROW):
                _keep(least, name, partial(marcher.render, frame), time.perf_counter)
    return dict(least)


def measure_eager(field: FieldArrays, frame: FrameInputs, points: torch.Tensor, repeats: int) -> Least:
    """Least times, ms, of eager torch on the same samples, by dtype."""
    least: Least = defaultdict(lambda: float("inf"))
    fields = {name: EagerField(field, frame, dtype) for name, dtype in DTYPES.items()}
    for _ in range(repeats + 1):  # the first warms up and will not be the least
        for name, eager in fields.items():
            _keep(least, f"eager_{name}", partial(eager.outputs, points))
    return dict(least)


def eager_figures(field: FieldArrays, frame: FrameInputs, least: Mapping[str, float]) -> dict[str, Figure]:
    """Eager torch: time of features and MLP, and PSNR of its picture against the reference."""
    expected, samples = render_reference(field, frame).rgba, frame_samples(field, frame)
    figures = {}
    for name, dtype in DTYPES.items():
        picture = EagerField(field, frame, dtype).picture(samples, (frame.height, frame.width))
        psnr_db = -10 * np.log10(np.mean((picture - expected) ** 2) + 1e-16)
        figures[f"eager_{name}_min"] = Figure(value=least[f"eager_{name}"], unit="ms", better="lower")
        figures[f"psnr_vs_reference_eager_{name}"] = Figure(value=float(psnr_db), unit="dB", better="higher")
    return figures


def level_figures(level: str, least: Mapping[str, float], samples: int, *, served: bool) -> dict[str, Figure]:
    """One level: parts, its peak, shares of it where the number of multiply-adds is known, and how much faster than
    eager torch it is on the same samples; the goal there is the served one's."""
    figures = {
        f"part_256_{part}_{level}_min": Figure(value=least[f"{part}_{level}"], unit="ms", better="lower")
        for part in PARTS
    }
    peak = 1e-6 / least[f"per_multiply_add_{level}"]
    figures[f"peak_{level}"] = Figure(value=peak, unit="G multiply-adds/s", better="higher")
    if not level.endswith("i16"):
        at_peak_ms = samples * sum(LAYERS) * least[f"per_multiply_add_{level}"]
        goal_share = GOAL_SHARE if level == "avx512bf16" else None
        share = at_peak_ms / least[f"frame_{level}"]
        figures[f"share_of_peak_{level}"] = Figure(value=share, unit="share", goal=goal_share, better="higher")
        share_mlp = at_peak_ms / least[f"mlp_{level}"]
        figures[f"mlp_share_of_peak_{level}"] = Figure(value=share_mlp, unit="share", better="higher")
    own = least[f"features_{level}"] + least[f"mlp_{level}"]
    for name in DTYPES:
        goal = GOAL_OVER_EAGER if served and name == "bfloat16" else None
        value = least[f"eager_{name}"] / own
        figures[f"eager_{name}_over_{level}"] = Figure(value=value, unit="x", goal=goal, better="higher")
    return figures


def ratio_figures(levels: tuple[str, ...], served: str, least: Mapping[str, float]) -> dict[str, Figure]:
    """Levels against the last of them; two threads and four times the pixels of the one that is served."""
    best = levels[-1]
    figures = {}
    for level in levels[:-1]:
        goal = GOALS_OVER_BFLOAT16.get(level) if best == "avx512bf16" else None
        value = least[f"frame_{level}"] / least[f"frame_{best}"]
        figures[f"{level}_over_{best}"] = Figure(value=value, unit="x", goal=goal, better="lower")
    threads = least["one_thread_wall"] / least["two_threads_wall"]
    figures["two_threads_speedup"] = Figure(value=threads, unit="x", goal=GOAL_TWO_THREADS, better="higher")
    figures[f"frame_512_{served}_min"] = Figure(value=least["large"], unit="ms", better="lower")
    larger = least["large"] / least[f"frame_{served}"]
    figures["frame_512_over_256"] = Figure(value=larger, unit="x", goal=GOAL_LARGE, better="lower")
    return figures


def memory_mb(field: FieldArrays, frame: FrameInputs, level: str) -> float | None:
    """What a scene adds to a process that has rendered one frame with it; None where /proc does not tell."""
    if not Path("/proc/self/statm").exists():
        return None
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_scene_memory_mb, (field, frame, level))


def _scene_memory_mb(field: FieldArrays, frame: FrameInputs, level: str) -> float:
    out = np.ones((frame.height, frame.width, 4), np.float32)
    before = _resident_pages()
    marcher = RayMarcher(field, instruction_set=level)
    marcher.render(frame, out)
    return (_resident_pages() - before) * 4096 / 1e6


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


def _keep(least: Least, name: str, run: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> None:
    """Time one call, ms, and keep it if it is the least of its name."""
    start = clock()
    run()
    least[name] = min(least[name], (clock() - start) * 1e3)
