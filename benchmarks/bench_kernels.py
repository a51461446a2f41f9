"""Milliseconds of the CPU kernels: the ray marcher per level and size, its parts, and I420 conversion; and in one run,
the levels against each other, against eager torch on the same samples, and against the core's measured peak.

    python benchmarks/bench_kernels.py [--avatar DIR | --synthetic] [--repeats 60] [--json R.json]

Without --avatar the default avatar is rendered (rest motion, eyes front), or a synthetic head where there is none.
Calls on one thread are timed by that thread's CPU time, so that being preempted on a shared machine does not count;
two threads by wall time. `min` is the fastest of the repeats; the spread of `median` is half the distance between
the quartiles.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from kernels.color import composite_i420
from kernels.native import cpu_info
from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from kernels.ray_march.calibration import levels_by_speed
from kernels.ray_march.reference import render_reference
from kernels.ray_march.synthetic import head_field, head_frame
from model.evaluation.kernel_bench import measure_one_run, missing_levels
from model.results import Figure, new_results, write_results

SIZES_PX = (256, 192, 128)
REFERENCE_SIZE_PX = 96
# Goals at 256 px on one core, ms with colour conversion. 40 ms is a frame at 25 fps; AVX2 leaves 10 to the rest.
GOALS_MS = {"avx512bf16": 10.0, "avx512": 20.0, "avx2i16": 20.0, "avx2": 30.0}
FrameMaker = Callable[[int], FrameInputs]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scene = parser.add_mutually_exclusive_group()
    scene.add_argument("--avatar", type=Path, help="avatar folder")
    scene.add_argument("--synthetic", action="store_true", help="the synthetic head, even if there is an avatar")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path, help="results file to write")
    args = parser.parse_args(argv)
    info = cpu_info()
    if not info.built:
        parser.exit(2, f"{info.problem}\n")
    keep_freed_memory()
    field, make_frame, data = load_scene(args.avatar, args.synthetic)
    figures = measure_quality(field, make_frame)
    for name in info.instruction_sets:
        figures |= measure_instruction_set(field, make_frame, name, args.repeats)
    figures |= measure_best(field, make_frame, args.repeats)
    figures |= measure_one_run(field, make_frame, args.repeats)
    for name, figure in figures.items():
        print(f"{name:38s} {figure.value:10.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        flags = " --synthetic" if data.startswith("synthetic") else ""
        command = f"python benchmarks/bench_kernels.py --repeats {args.repeats}{flags}"
        details: JsonValue = {"levels_this_machine_lacks": list(missing_levels())}
        write_results(args.json, new_results(figures, command=command, data=data, details=details))
    return 0


def keep_freed_memory() -> None:
    """Has glibc hand freed memory out again in place of giving it back to the system: otherwise eager torch, which
    allocates tens of MB per operator, is slowed by page faults, in some runs by two thirds and in others not at all."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def load_scene(avatar_folder: Path | None, synthetic: bool) -> tuple[FieldArrays, FrameMaker, str]:
    """Field, frame maker by size, and a line that names the data."""
    from model.avatar import DEFAULT_AVATAR, load_avatar
    from model.radiance.serving import FieldConditioner, served_field

    folder = avatar_folder or DEFAULT_AVATAR
    if synthetic or (avatar_folder is None and not (folder / "avatar.json").exists()):
        return head_field(), head_frame, "synthetic head (kernels/ray_march/synthetic.py)"
    avatar = load_avatar(folder)
    conditioner = FieldConditioner(avatar.config, avatar.arrays)
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)

    def make_frame(size_px: int) -> FrameInputs:
        return conditioner.frame_inputs(motion, avatar.config.rest_pose, size_px)

    return (
        served_field(avatar, conditioner),
        make_frame,
        f"avatar {avatar.config.name}, field {avatar.config.field_hash[:12]}",
    )


def measure_quality(field: FieldArrays, make_frame: FrameMaker) -> dict[str, Figure]:
    """PSNR of every instruction set against the float64 reference."""
    frame = make_frame(REFERENCE_SIZE_PX)
    expected = render_reference(field, frame).rgba
    figures: dict[str, Figure] = {}
    for name in cpu_info().instruction_sets:
        got = RayMarcher(field, instruction_set=name).render(frame)
        psnr_db = -10 * np.log10(np.mean((got - expected) ** 2) + 1e-16)
        figures[f"psnr_vs_reference_{name}"] = Figure(value=float(psnr_db), unit="dB", goal=45.0, better="higher")
    return figures


def measure_instruction_set(field: FieldArrays, make_frame: FrameMaker, name: str, repeats: int) -> dict[str, Figure]:
    """Render + colour on one thread, by size."""
    figures: dict[str, Figure] = {}
    marcher = RayMarcher(field, instruction_set=name)
    for size_px in SIZES_PX:
        run = frame_runner(marcher, make_frame(size_px))
        goal = GOALS_MS.get(name) if size_px == SIZES_PX[0] else None
        figures |= timing(f"frame_{size_px}_{name}", run, repeats, goal)
    return figures


def measure_best(field: FieldArrays, make_frame: FrameMaker, repeats: int) -> dict[str, Figure]:
    """The level that is served at 256 px: two threads, samples, colour alone, preparation."""
    frame = make_frame(SIZES_PX[0])
    best = levels_by_speed()[0]
    two = frame_runner(RayMarcher(field, threads=2, instruction_set=best), frame)
    figures = timing("frame_256_two_threads_wall", two, repeats, clock=time.perf_counter)
    start = time.thread_time()
    marcher = RayMarcher(field, instruction_set=best)
    figures["prepare"] = Figure(value=(time.thread_time() - start) * 1e3, unit="ms", better="lower")
    rgba, underlay = marcher.render(frame), np.zeros((frame.height, frame.width, 3), np.uint8)
    assert marcher.render_stats is not None
    figures["samples_256"] = Figure(value=float(marcher.render_stats.samples), unit="samples", better="lower")
    every = RayMarcher(replace(field, matter=None), instruction_set=best)
    every.render(frame)
    assert every.render_stats is not None
    samples = float(every.render_stats.samples)
    figures["samples_256_all_motions"] = Figure(value=samples, unit="samples", better="lower")
    out = composite_i420(rgba, underlay)
    return figures | timing("color_256", lambda: composite_i420(rgba, underlay, out), repeats)


def frame_runner(marcher: RayMarcher, frame: FrameInputs) -> Callable[[], NDArray[np.uint8]]:
    """A call that renders and converts one frame into buffers of its own."""
    rgba = np.empty((frame.height, frame.width, 4), np.float32)
    underlay = np.full((frame.height, frame.width, 3), 90, np.uint8)
    out = np.empty((frame.height * 3 // 2, frame.width), np.uint8)
    return lambda: composite_i420(marcher.render(frame, rgba), underlay, out, instruction_set=marcher.instruction_set)


def timing(
    name: str,
    run: Callable[[], object],
    repeats: int,
    goal: float | None = None,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, Figure]:
    """Minimum (against the goal) and median of a call, ms, after three warm-up calls."""
    times = []
    for turn in range(repeats + 3):
        start = clock()
        run()
        if turn >= 3:
            times.append((clock() - start) * 1e3)
    low, middle, high = np.percentile(times, (25, 50, 75))
    return {
        f"{name}_min": Figure(value=min(times), unit="ms", goal=goal, better="lower"),
        f"{name}_median": Figure(value=float(middle), unit="ms", better="lower", spread=float(high - low) / 2),
    }


if __name__ == "__main__":
    raise SystemExit(main())
