"""The Triton ray marcher on a GPU: time per launch, against torch, and how near the GPU's measured limits it comes.

    python benchmarks/bench_march_gpu.py [--avatar DIR | --synthetic] [--repeats 100] [--json R.json]

Sizes 256 and 512 px, batches of 1, 8 and 32 slots of one avatar (rest motion, eyes front), pictures left on the GPU;
one frame also replayed from a CUDA graph. torch, eager and compiled, evaluates the same occupied samples in float16,
a frame at a time, without early termination (march_in_torch.py). The limits are measured too: a large float16
product, a large copy, and reading random 32-byte texels of a table of the planes' size. A frame can be no faster than
the slowest of its products, its texels and its output at those rates; the share is that time over the kernel's.

Without a CUDA GPU it says so and exits with 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from bench_kernels import FrameMaker, load_scene
from march_in_torch import TorchMarcher
from torch import Tensor

from kernels.ray_march import FieldArrays
from kernels.ray_march.batch import Pictures, pack_slots, render_batch, render_into, upload_slot
from kernels.ray_march.prepared import Precision, PreparedField
from kernels.ray_march.reference import render_reference
from model.results import Figure, new_results, write_results

SIZES_PX = (256, 512)
BATCHES = (1, 8, 32)
GOAL_512_MS = 0.6  # one frame of 512 px on an H200
REFERENCE_SIZE_PX = 96
MIN_PSNR_DB: dict[Precision, float] = {"fp32": 45.0, "fp16": 38.0, "bf16": 38.0}
FLOP_PER_SAMPLE = 2 * (48 * 64 + 64 * 64 + 64 * 4)
TEXELS_PER_SAMPLE, TEXEL_BYTES = 12, 32
PIXEL_BYTES = 20  # RGBA and depth


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scene = parser.add_mutually_exclusive_group()
    scene.add_argument("--avatar", type=Path, help="avatar folder")
    scene.add_argument("--synthetic", action="store_true", help="the synthetic head, even if there is an avatar")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--json", type=Path, help="results file to write (benchmarks/results/kernels_gpu.json)")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        parser.exit(2, "torch finds no CUDA GPU here: nothing was measured. Run this on a machine that has one.\n")
    field, make_frame, data = load_scene(args.avatar, args.synthetic)
    figures = measure_quality(field, make_frame)
    limits = measure_limits(field, args.repeats)
    figures |= {name: Figure(value=value, unit=unit, better="higher") for name, (value, unit) in limits.items()}
    for size in SIZES_PX:
        figures |= measure_size(field, make_frame, size, args.repeats, {n: v for n, (v, _) in limits.items()})
    for name, figure in figures.items():
        print(f"{name:38s} {figure.value:12.4f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        flags = " --synthetic" if data.startswith("synthetic") else ""
        command = f"python benchmarks/bench_march_gpu.py --repeats {args.repeats}{flags} --json {args.json.name}"
        write_results(args.json, new_results(figures, command=command, data=data))
    return 0


def measure_quality(field: FieldArrays, make_frame: FrameMaker) -> dict[str, Figure]:
    """PSNR of every precision against the float64 reference."""
    frame = make_frame(REFERENCE_SIZE_PX)
    reference = render_reference(field, frame)
    figures = {}
    for precision, goal in MIN_PSNR_DB.items():
        slot = upload_slot(PreparedField(field, "cuda", precision=precision), frame)
        rgba = render_batch([slot], frame.height, frame.width).rgba[0].cpu().numpy()
        psnr_db = float(-10.0 * np.log10(np.mean((rgba - reference.rgba) ** 2) + 1e-16))
        figures[f"march_{precision}_psnr"] = Figure(value=psnr_db, unit="dB", goal=goal, better="higher")
    return figures


def measure_limits(field: FieldArrays, repeats: int) -> dict[str, tuple[float, str]]:
    """This GPU's own rates: products, copies, random texels."""
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    product = torch.empty_like(square)
    room, copy = (torch.empty(1 << 28, device="cuda", dtype=torch.float32) for _ in range(2))
    table = torch.tensor(field.planes, device="cuda").reshape(-1, TEXEL_BYTES // 2)
    rows = torch.randint(len(table), (1 << 24,), device="cuda")
    texels = torch.empty(len(rows), TEXEL_BYTES // 2, device="cuda", dtype=torch.float16)
    few = max(5, repeats // 10)
    product_ms = min(times_ms(lambda: torch.matmul(square, square, out=product), few))
    copy_ms = min(times_ms(lambda: copy.copy_(room), few))
    texel_ms = min(times_ms(lambda: torch.index_select(table, 0, rows, out=texels), few))
    return {
        "limit_fp16_product": (2 * 8192**3 / product_ms / 1e9, "TFLOP/s"),
        "limit_copy": (2 * room.nbytes / copy_ms / 1e6, "GB/s"),
        "limit_texels": (texels.nbytes / texel_ms / 1e6, "GB/s"),
    }


def measure_size(
    field: FieldArrays, make_frame: FrameMaker, size: int, repeats: int, limits: dict[str, float]
) -> dict[str, Figure]:
    """Every batch at one size, the CUDA graph, and torch."""
    frame = make_frame(size)
    slot = upload_slot(PreparedField(field, "cuda"), frame)
    counted = render_batch([slot], size, size, count_samples=True)
    assert counted.samples is not None
    samples = int(counted.samples.sum())
    figures = {f"march_{size}_samples": Figure(value=samples, unit="samples", better="lower")}
    for B in BATCHES:
        batch = pack_slots([slot] * B)
        pictures = Pictures(
            rgba=torch.empty(B, size, size, 4, device="cuda"),
            depth=torch.empty(B, size, size, device="cuda"),
            samples=None,
        )

        def launch(batch=batch, pictures=pictures) -> None:  # type: ignore[no-untyped-def]
            render_into(batch, pictures)

        goal = GOAL_512_MS if (size, B) == (512, 1) else None
        figures |= timing(f"march_{size}_b{B}", times_ms(launch, repeats), goal)
        median = figures[f"march_{size}_b{B}"].value
        share = floor_ms(samples * B, size * size * B, limits) / median
        figures[f"march_{size}_b{B}_share_of_limit"] = Figure(value=share, unit="ratio", better="higher")
        if B == 1:
            figures |= timing(f"march_{size}_graph", times_ms(captured(launch).replay, repeats))
    marcher = TorchMarcher(field, frame, "cuda", torch.float16)
    figures |= timing(f"torch_{size}_eager", times_ms(marcher.render, max(5, repeats // 10)))
    marcher.compile()
    figures |= timing(f"torch_{size}_compiled", times_ms(marcher.render, max(5, repeats // 10)))
    return figures


def floor_ms(samples: int, pixels: int, limits: dict[str, float]) -> float:
    """The least time at the measured rates: products, texels and output overlap perfectly."""
    products = samples * FLOP_PER_SAMPLE / limits["limit_fp16_product"] / 1e9
    texels = samples * TEXELS_PER_SAMPLE * TEXEL_BYTES / limits["limit_texels"] / 1e6
    return max(products, texels, pixels * PIXEL_BYTES / limits["limit_copy"] / 1e6)


def captured(launch: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """The launch in a CUDA graph; it was called before, so that it is compiled."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch()
    return graph


def times_ms(run: Callable[[], object | Tensor], repeats: int) -> list[float]:
    """Device time of each call after three warm-up calls, from events around it."""
    for _ in range(3):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for before, after in events:
        before.record()
        run()
        after.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in events]


def timing(name: str, times: Sequence[float], goal: float | None = None) -> dict[str, Figure]:
    """Median (spread: half the distance between the quartiles) and 95th percentile."""
    low, middle, high, late = np.percentile(times, (25, 50, 75, 95)).tolist()
    return {
        name: Figure(value=middle, unit="ms", goal=goal, better="lower", spread=(high - low) / 2),
        f"{name}_p95": Figure(value=late, unit="ms", better="lower"),
    }


if __name__ == "__main__":
    raise SystemExit(main())
