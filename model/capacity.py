"""How many frames per second this machine holds, measured by running the pipeline; picks the largest size that does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.pipeline import FPS, AvatarPipeline
from model.state import Controls

HEADROOM = 1.5
"""Frames per second wanted over the 25 needed: encoding, networking and neighbours take their share."""
TRIES = 2
WARM_UP_HOPS = 4
MEASURED_HOPS = 16


@dataclass(frozen=True)
class Capacity:
    """The size chosen and what it was measured to hold."""

    size: int
    fps: float  # sustained frames per second of the pipeline alone
    cpu_share: float  # CPU seconds per second of video at 25 fps (1 = one core)
    pipeline: AvatarPipeline

    @property
    def holds(self) -> bool:
        """Whether 25 fps are held at all."""
        return self.fps >= FPS


def choose_size(load: Callable[[int], AvatarPipeline], sizes: Sequence[int] = (256, 192, 128)) -> Capacity:
    """Load at each size from the first on and stop at the first with enough headroom; the last one otherwise.

    Raises:
        ValueError: `sizes` is empty.
    """
    if not sizes:
        raise ValueError("sizes is empty; name at least one picture size")
    for size in sizes:
        pipeline = load(size)
        for _ in range(TRIES):  # a neighbour may have been busy for a moment
            capacity = measure_capacity(pipeline)
            if capacity.fps >= FPS * HEADROOM:
                return capacity
    return capacity


def measure_capacity(pipeline: AvatarPipeline) -> Capacity:
    """Run one session over a syllable-like test signal; the median hop counts, after a warm-up."""
    spec = pipeline.spec
    state = pipeline.new_state(seed=0)
    audio = syllables((WARM_UP_HOPS + MEASURED_HOPS) * spec.hop_samples, spec.sample_rate)
    walls, cpus = [], []
    for hop, part in enumerate(audio.reshape(-1, 1, spec.hop_samples)):
        wall, cpu = time.perf_counter(), time.process_time()
        pipeline.step(part, [Controls()], [state])
        if hop >= WARM_UP_HOPS:
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    fps = spec.hop_frames / float(np.median(walls))
    return Capacity(spec.size, fps, float(np.median(cpus)) / spec.hop_frames * FPS, pipeline)


def syllables(num_samples: int, sample_rate: int) -> NDArray[np.float32]:
    """A buzz of 120 Hz opened and closed four times a second: enough to move the mouth, the same everywhere."""
    t = np.arange(num_samples) / sample_rate
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 12))
    return np.asarray(0.2 * buzz * np.clip(np.sin(2 * np.pi * 4 * t), 0, None), np.float32)
