"""A step for each batch size: on a GPU captured once as a CUDA graph and replayed, on the CPU called as it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from model.slots.step import FixedSlotStep, StepOutput

BUCKETS: Final = (1, 2, 4, 8, 16, 32)
"""Numbers of slots that are captured; a batch takes the next larger one."""
WARM_UP_CALLS: Final = 3

Compute = Callable[[], StepOutput]
Capture = Callable[[Compute], Compute]
"""Turns a function of fixed tensors into its replay, whose result is valid until the next call."""


class BucketedStep:
    """Fixed tensors for each bucket, and the step over them."""

    def __init__(self, step: FixedSlotStep, capture: Capture | None = None) -> None:
        self.step = step
        self.device = step.table.device
        self._capture = capture or (CudaStepCapture(self.device) if self.device.type == "cuda" else None)
        self._buckets: dict[int, _Bucket] = {}

    @torch.inference_mode()
    def warm_up(self) -> None:
        """On a GPU capture all buckets, which takes seconds; one that was not is captured at its first use."""
        if self._capture is not None:
            for size in reversed(BUCKETS):  # the largest first: the smaller ones fit into its memory
                self._bucket(size)

    @torch.inference_mode()
    def __call__(self, rows: list[Tensor], hop_rows: Tensor) -> StepOutput:
        """One hop of up to 32 slots: each one's row on the device, and what the hop brings (B, bytes), on the host.

        Waits for the result. The new rows, on the device, are the caller's to keep; pictures, motion and head are on
        the host and valid until the next call. Unused slots repeat the first.
        """
        count = len(rows)
        bucket = self._bucket(next(size for size in BUCKETS if size >= count))
        order = [*range(count), *[0] * (bucket.size - count)]
        torch.stack([rows[i] for i in order], out=bucket.rows)
        bucket.staged[:count] = hop_rows
        bucket.staged[count:] = hop_rows[:1]
        bucket.hop_rows.copy_(bucket.staged, non_blocking=True)
        out = bucket.run()
        kept = out.rows[:count].clone()
        if self.device.type == "cpu":
            return StepOutput(kept, *(part[:count] for part in out[1:]))
        for part, host in zip(out[1:], bucket.on_host(out), strict=True):
            host[:count].copy_(part[:count], non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return StepOutput(kept, *(host[:count] for host in bucket.on_host(out)))

    def replay(self, size: int) -> StepOutput:
        """Run a bucket on what its slots hold, for measuring; the result is valid until the next call."""
        return self._bucket(size).run()

    def _bucket(self, size: int) -> _Bucket:
        if size not in self._buckets:
            self._buckets[size] = _Bucket(self.step, size, self._capture)
        return self._buckets[size]


class _Bucket:
    """The fixed tensors of one number of slots."""

    def __init__(self, step: FixedSlotStep, size: int, capture: Capture | None) -> None:
        device = step.table.device
        self.size = size
        self.rows = torch.zeros(size, step.state.size_bytes, dtype=torch.uint8, device=device)
        self.hop_rows = torch.zeros(size, step.inputs.size_bytes, dtype=torch.uint8, device=device)
        self.staged = torch.zeros(self.hop_rows.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")

        self._pinned: list[Tensor] | None = None

        def compute() -> StepOutput:
            out: StepOutput = step(self.rows, self.hop_rows)
            return out

        self.run = compute if capture is None else capture(compute)

    def on_host(self, out: StepOutput) -> list[Tensor]:
        """Room on the host, which the device copies into by itself, for all of `out` but the rows."""
        if self._pinned is None:
            self._pinned = [torch.empty(part.shape, dtype=part.dtype, pin_memory=True) for part in out[1:]]
        return self._pinned


class CudaStepCapture:
    """Captures steps as CUDA graphs that share one pool of memory: only one's result is valid at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> Compute:
        """Warm `compute` up on a side stream, as graphs demand (kernels are compiled then), capture it."""
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                compute()
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = compute()

        def replay() -> StepOutput:
            graph.replay()
            return result

        return replay
