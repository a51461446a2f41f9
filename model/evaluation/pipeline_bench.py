"""Milliseconds per stage and sustained frames per second of the whole pipeline on this machine, VP8 included.

A session is run over a test signal, hop by hop, as fast as it goes; CPU time is the process's own. The share of the
machine at 25 fps is CPU seconds per second of video over the number of cores. Minima beside medians, since shared
machines are noisy; ratios within the run are what to compare.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.capacity import syllables
from model.pipeline import FPS, AvatarPipeline
from model.results import Figure
from model.state import Controls

STAGES = ("mel", "encoder", "sampler", "decode", "render", "color")
WARM_UP_HOPS = 10

Encode = Callable[[NDArray[np.uint8]], object]
"""Compresses one I420 frame as a live call does."""


@dataclass(frozen=True)
class Variant:
    """One configuration to time."""

    name: str
    size: int
    instruction_set: str = "auto"
    steps: int = 2
    threads: int = 1
    cpu_share_goal: float | None = None
    fps_goal: float | None = float(FPS)


VARIANTS = (
    Variant("best_256", 256, cpu_share_goal=0.5),
    Variant("best_256_4_steps", 256, steps=4),
    Variant("avx512_256", 256, "avx512"),
    Variant("avx2_256", 256, "avx2"),
    Variant("avx2_192", 192, "avx2", cpu_share_goal=0.5),
    Variant("avx2_128", 128, "avx2"),
)


def bench_pipeline(
    new_encoder: Callable[[int], Encode], variants: tuple[Variant, ...] = VARIANTS, *, seconds: float = 12.0
) -> dict[str, Figure]:
    """Figures of every variant that this machine's instruction sets allow; `new_encoder` makes the server's encoder."""
    figures: dict[str, Figure] = {}
    for variant in variants:
        try:
            pipeline = AvatarPipeline.load(
                None,
                size=variant.size,
                steps=variant.steps,
                threads=variant.threads,
                instruction_set=variant.instruction_set,
            )
        except ValueError:  # the kernel's KernelInputError: this machine lacks the instruction set
            continue
        figures |= measure_variant(variant, pipeline, new_encoder(variant.size), seconds)
    return figures


def measure_variant(variant: Variant, pipeline: AvatarPipeline, encode: Encode, seconds: float) -> dict[str, Figure]:
    """Stage medians per frame, sustained fps, and the share of all cores at 25 fps."""
    spec = pipeline.spec
    hops = WARM_UP_HOPS + int(seconds * FPS / spec.hop_frames)
    audio = syllables(hops * spec.hop_samples, spec.sample_rate).reshape(-1, 1, spec.hop_samples)
    state = pipeline.new_state(seed=0)
    stages: dict[str, list[float]] = {name: [] for name in (*STAGES, "encode")}
    walls, cpus = [], []
    for hop, part in enumerate(audio):
        wall, cpu = time.perf_counter(), time.process_time()
        output = pipeline.step(part, [Controls()], [state])[0]
        encode_ms = sum(_timed_ms(encode, frame) for frame in output.frames)
        if hop < WARM_UP_HOPS:
            continue
        walls.append((time.perf_counter() - wall) * 1000 / spec.hop_frames)
        cpus.append((time.process_time() - cpu) * 1000 / spec.hop_frames)
        for name, value in (output.stage_ms | {"encode": encode_ms}).items():
            stages[name].append(value / spec.hop_frames)
    cores = len(os.sched_getaffinity(0))
    share = float(np.median(cpus)) * FPS / 1000 / cores
    p = variant.name
    figures = {f"{p}.{name}_ms_per_frame": _figure(values) for name, values in stages.items()}
    figures[f"{p}.total_ms_per_frame"] = _figure(walls)
    figures[f"{p}.fps"] = Figure(value=1000 / float(np.mean(walls)), unit="fps", goal=variant.fps_goal, better="higher")
    figures[f"{p}.cpu_share_at_25fps"] = Figure(
        value=share, unit=f"of {cores} cores", goal=variant.cpu_share_goal, better="lower"
    )
    return figures


def _timed_ms(encode: Encode, frame: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    encode(frame)
    return (time.perf_counter() - start) * 1000


def _figure(values: list[float]) -> Figure:
    low, high = np.quantile(values, [0.05, 0.95])
    return Figure(value=float(np.median(values)), unit="ms", better="lower", spread=float(high - low) / 2)
