"""Milliseconds of a training step of the radiance field on a GPU: the differentiable kernel against plain torch.

    python benchmarks/bench_training_gpu.py [--rays 4096] [--frames 8] [--repeats 50] [--json R.json]

A step marches random rays of several frames of a synthetic head, takes a squared error of their colours, goes back to
planes, weights, biases, warps and cameras, and lets Adam move them. Torch evaluates the same samples with the same
gradients (`kernels.ray_march.torch_reference`), in float32 with TF32 products. Times are wall times between device
synchronisations, medians after warm-up. Without a CUDA GPU it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernels.backend import Backend
from kernels.ray_march.differentiable import march_rays
from kernels.ray_march.synthetic import head_field, head_frame
from kernels.ray_march.tensors import (
    FieldTensors,
    FrameTensors,
    Rays,
    Volume,
    camera_rays,
    camera_tensors,
    field_tensors,
    frame_tensors,
    volume_of,
)
from model.results import Figure, new_results, write_results

SIZE_PX = 256
WARMUP_STEPS = 10
GOAL_RATIO = 10.0
CLOSE = 0.1  # of a gradient's norm, products in bfloat16 against TF32


class Trained:
    """Leaves, their optimiser, and which rays of which frames a step looks at."""

    def __init__(self, rays: int, frames: int, device: torch.device) -> None:
        arrays = head_field()
        views = [head_frame(SIZE_PX, yaw=yaw, seed=i) for i, yaw in enumerate(np.linspace(-0.4, 0.4, frames))]
        self.volume: Volume = volume_of(arrays, device)
        self.field = FieldTensors(*(t.requires_grad_() for t in field_tensors(arrays, device)))
        self.frames = FrameTensors(*(t.requires_grad_() for t in frame_tensors(views, device, torch.float32)))
        self.cameras, self.lenses = camera_tensors(views, device, torch.float32)
        self.cameras.requires_grad_()
        self.leaves: list[Tensor] = [*self.field, *self.frames, self.cameras]
        self.optimiser = torch.optim.Adam(self.leaves, lr=1e-5, fused=True)
        generator = torch.Generator().manual_seed(0)
        each = rays // frames
        picked = [torch.randint(SIZE_PX**2, (each,), generator=generator) + i * SIZE_PX**2 for i in range(frames)]
        self.picked, self.counts = torch.cat(picked).to(device), (each,) * frames
        self.wanted = torch.rand(each * frames, 3, generator=generator).to(device)

    def gradients(self, backend: Backend) -> int:
        """Forward and back; returns the samples evaluated."""
        self.optimiser.zero_grad(set_to_none=True)
        whole = camera_rays(self.cameras, self.lenses, self.volume, height=SIZE_PX, width=SIZE_PX)
        rays = Rays(*(part[self.picked] for part in whole[:4]), self.counts)
        sums = march_rays(self.field, self.frames, rays, self.volume, backend=backend)
        ((sums.color - self.wanted) ** 2).mean().backward()
        return int(sums.samples.sum())

    def step(self, backend: Backend) -> None:
        """Gradients, and what Adam makes of them."""
        self.gradients(backend)
        self.optimiser.step()


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the gradients, measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rays", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("no CUDA GPU here: nothing is measured", file=sys.stderr)
        return 2
    torch.backends.cuda.matmul.allow_tf32 = True
    trained = Trained(options.rays, options.frames, torch.device("cuda"))
    samples, worst = trained.gradients("triton"), compare(trained)
    if worst > CLOSE:
        print(f"gradients differ by {worst:.3g} of their norm: no time counts", file=sys.stderr)
        return 1
    times = {name: measure(trained, name, options.repeats) for name in ("triton", "reference")}
    ratio = float(np.median(times["reference"]) / np.median(times["triton"]))
    figures = {
        f"step_{name}": Figure(value=float(np.median(ms)), unit="ms", better="lower", spread=spread(ms), n=len(ms))
        for name, ms in times.items()
    }
    figures["torch_over_kernel"] = Figure(value=ratio, unit="times", goal=GOAL_RATIO, better="higher")
    figures["gradient_difference"] = Figure(value=worst, unit="of the norm", goal=CLOSE, better="lower")
    figures["samples"] = Figure(value=float(samples), unit="samples", better="lower")
    for name, figure in figures.items():
        print(f"{name:24s} {figure.value:10.4g} {figure.unit}")
    if options.json:
        command = f"python benchmarks/bench_training_gpu.py --rays {options.rays} --frames {options.frames}"
        write_results(options.json, new_results(figures, command=command, data="synthetic head, 256 px"))
    return 0


def compare(trained: Trained) -> float:
    """Largest difference of any leaf's gradient between both, over its norm."""
    trained.gradients("triton")
    found = [leaf.grad.clone() for leaf in trained.leaves if leaf.grad is not None]
    trained.gradients("reference")
    wanted = [leaf.grad for leaf in trained.leaves if leaf.grad is not None]
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))


def measure(trained: Trained, backend: Backend, repeats: int) -> list[float]:
    """Milliseconds of each step after warm-up."""
    times = []
    for i in range(WARMUP_STEPS + repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        trained.step(backend)
        torch.cuda.synchronize()
        if i >= WARMUP_STEPS:
            times.append((time.perf_counter() - begin) * 1e3)
    return times


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles."""
    low, high = np.percentile(values, [25, 75])
    return float(high - low) / 2


if __name__ == "__main__":
    raise SystemExit(main())
