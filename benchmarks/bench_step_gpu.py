"""Milliseconds of the whole serving step on a GPU, by number of sessions, and of its color kernel alone.

    python -m benchmarks.bench_step_gpu [--size 256] [--repeats 100] [--json benchmarks/results/step_gpu.json]

`step_B_replay`: one hop (two frames each) of B sessions as a captured graph, from sound to I420 on the device.
`step_B_served`: the same as the engine calls it, with what the host prepares, copies both ways and the visible mark.
64 sessions are two graphs of 32. `color_S_B_BACKEND`: compositing and I420 of B pictures of S px; its share of memory
bandwidth is against a copy on the same device. Medians after warm-up, device-synchronised; spread is half the distance
between the quartiles. Without a GPU that can be used it ends with exit code 2.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernels.color.reference import i420_bytes
from kernels.color.slots import composite_i420_slots, has_cupy
from model.capacity import syllables
from model.pipeline import AvatarPipeline
from model.provenance.marker import MarkSettings
from model.results import Figure, new_results, write_results
from model.slots.devices import gpu_problem
from model.slots.graphs import BUCKETS
from model.slots.pipeline import SlotPipeline
from model.state import Controls

SESSIONS = (1, 8, 32, 64)
COLOR_SIZES_PX = (256, 512)
WARM_UP_CALLS = 5
HOP_BUDGET_MS = 80.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="picture size of the whole step, px")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", type=Path, help="results file to write")
    args = parser.parse_args(argv)
    problem = gpu_problem()
    if problem:
        sys.stderr.write(f"no GPU to measure: {problem}\n")
        return 2
    device = torch.device("cuda", 0)
    figures = measure_color(device, COLOR_SIZES_PX, SESSIONS, args.repeats)
    pipeline = load(args.size, device)
    pipeline.warm_up()
    figures |= measure_step(pipeline, SESSIONS, args.repeats)
    for name, figure in figures.items():
        print(f"{name:38s} {figure.value:10.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        command = f"python -m benchmarks.bench_step_gpu --size {args.size} --repeats {args.repeats}"
        data = f"default avatar, synthetic syllables, {args.size} px"
        write_results(args.json, new_results(figures, command=command, data=data))
    return 0


def load(size_px: int, device: torch.device) -> SlotPipeline:
    """The shipped models as `serve` loads them, marks included."""
    host = AvatarPipeline.load(None, size=size_px, device=torch.device("cpu"), marks=MarkSettings())
    return SlotPipeline(host, device=device)


def measure_step(pipeline: SlotPipeline, sessions: Sequence[int], repeats: int) -> dict[str, Figure]:
    """The captured step alone, and as the engine calls it."""
    figures: dict[str, Figure] = {}
    for count in sessions:
        replay = step_runner(pipeline, count)
        figures |= timing(f"step_{count}_replay", replay, repeats, pipeline.device)
        figures |= timing(f"step_{count}_served", served_runner(pipeline, count, repeats), repeats, pipeline.device)
        median_ms = figures[f"step_{count}_served_median"].value
        held = count * min(1.0, HOP_BUDGET_MS / median_ms)
        figures[f"step_{count}_held"] = Figure(value=held, unit="sessions at 25 fps", better="higher")
    return figures


def step_runner(pipeline: SlotPipeline, count: int) -> Callable[[], object]:
    """Replays the graph of a bucket, or of several, on what its slots hold."""
    step = pipeline.steps[False]
    sizes = [BUCKETS[-1]] * (count // BUCKETS[-1]) or [next(size for size in BUCKETS if size >= count)]
    hop_rows = torch.zeros(sizes[0], step.step.inputs.size_bytes, dtype=torch.uint8)
    rows = [pipeline.new_state(seed).row for seed in range(sizes[0])]
    with torch.inference_mode():
        step(rows, hop_rows)

    def run() -> None:
        with torch.inference_mode():
            for size in sizes:
                step.replay(size)

    return run


def served_runner(pipeline: SlotPipeline, count: int, repeats: int) -> Callable[[], object]:
    """Calls `step` as the engine does, with new sound each time."""
    samples = pipeline.spec.hop_samples
    sound = syllables((repeats + WARM_UP_CALLS) * samples, pipeline.spec.sample_rate).reshape(-1, 1, samples)
    hops = iter(np.repeat(sound, count, 1))
    states = [pipeline.new_state(seed) for seed in range(count)]
    controls = [Controls()] * count
    return lambda: pipeline.step(next(hops), controls, states)


def measure_color(
    device: torch.device, sizes_px: Sequence[int], slots: Sequence[int], repeats: int
) -> dict[str, Figure]:
    """The color kernel by size, number of pictures and backend, and its share of a copy's bandwidth."""
    backends = ("triton", "cupy") if has_cupy() else ("triton",)
    figures: dict[str, Figure] = {}
    for size_px in sizes_px:
        for count in slots:
            rgba, underlay, out = color_tensors(count, size_px, device)
            moved = rgba.nbytes + underlay.nbytes + out.nbytes
            copied = timing("copy", copier(moved // 2, device), repeats, device)["copy_median"].value
            for backend in backends if device.type == "cuda" else ("auto",):
                name = f"color_{size_px}_{count}_{backend}"
                run = partial(composite_i420_slots, rgba, underlay, out, backend=backend)
                figures |= timing(name, run, repeats, device)
                share = copied / figures[f"{name}_median"].value
                figures[f"{name}_bandwidth"] = Figure(value=share, unit="of a copy's", better="higher")
    return figures


def color_tensors(count: int, size_px: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Heads, underlays and room for the result."""
    rgba = torch.rand(count, size_px, size_px, 4, device=device)
    underlay = torch.randint(0, 256, (count, size_px, size_px, 3), dtype=torch.uint8, device=device)
    return rgba, underlay, torch.empty(count, i420_bytes(size_px, size_px), dtype=torch.uint8, device=device)


def copier(size_bytes: int, device: torch.device) -> Callable[[], object]:
    """Copies that many bytes: it moves twice as many."""
    source, target = (torch.zeros(size_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    return lambda: target.copy_(source)


def timing(name: str, run: Callable[[], object], repeats: int, device: torch.device) -> dict[str, Figure]:
    """Median and 95th percentile of a call, ms, after warm-up; each call is waited for."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for turn in range(repeats + WARM_UP_CALLS):
        wait()
        start = time.perf_counter()
        run()
        wait()
        if turn >= WARM_UP_CALLS:
            times.append((time.perf_counter() - start) * 1e3)
    low, middle, high, late = (float(value) for value in np.percentile(times, (25, 50, 75, 95)))
    return {
        f"{name}_median": Figure(value=middle, unit="ms", better="lower", spread=(high - low) / 2),
        f"{name}_p95": Figure(value=late, unit="ms", better="lower"),
    }


if __name__ == "__main__":
    raise SystemExit(main())
