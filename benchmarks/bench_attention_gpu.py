"""Microseconds of the U-Net's attention on a GPU: the fused kernel against torch's operations, both as CUDA graphs.

    python benchmarks/bench_attention_gpu.py [--repeats 200] [--json benchmarks/results/attention_gpu.json]

The shipped net's three levels, self- and cross-attention, 1, 8, 32 and 64 sessions, in float32 and float16. "torch" is
layer norm, three projections, scaled_dot_product_attention, projection and residual. Both results are compared first.
Without a CUDA device nothing is measured: it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kernels.backend import triton_problem
from kernels.temporal_attention import AttentionWeights, attention_block
from model.results import Figure, new_results, write_results

LEVELS = ((16, 128), (8, 160), (4, 192))  # frames and channels of the shipped net
TOKENS, SOURCE, HEADS = 16, 160, 4
SESSIONS = (1, 8, 32, 64)
CALLS = 20  # in one graph, so that its own launch hardly counts
GOAL_SPEEDUP = 2.0
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    device = torch.device("cuda")
    problem = "there is no CUDA device" if not torch.cuda.is_available() else triton_problem(device)
    if problem:
        print(f"not measured: {problem}. Missing: time of the fused attention against torch's, at 1 to 64 sessions.")
        return 2
    figures: dict[str, Figure] = {}
    for dtype in TOLERANCE:
        for frames, width in LEVELS:
            for cross in (False, True):
                for sessions in SESSIONS:
                    figures |= _measure(sessions, frames, width, cross=cross, dtype=dtype, repeats=args.repeats)
    if args.json is not None:
        command = f"python benchmarks/bench_attention_gpu.py --repeats {args.repeats}"
        write_results(
            args.json, new_results(figures, command=command, data="random inputs at the shipped net's shapes")
        )
    return 0


@torch.inference_mode()
def _measure(
    sessions: int, frames: int, width: int, *, cross: bool, dtype: torch.dtype, repeats: int
) -> dict[str, Figure]:
    """Figures `<kind>_t<frames>_<dtype>.b<sessions>.<metric>`."""
    torch.manual_seed(0)
    source = SOURCE if cross else width
    weights = _weights(width, source, dtype)
    x = torch.randn(sessions, frames, width, device="cuda", dtype=dtype)
    context = torch.randn(sessions, TOKENS, SOURCE, device="cuda", dtype=dtype) if cross else None
    mask = (torch.arange(TOKENS, device="cuda") < 12).expand(sessions, -1).contiguous() if cross else None

    def ours() -> Tensor:
        return attention_block(x, weights, HEADS, context=context, mask=mask, backend="triton")

    def unfused() -> Tensor:
        return attention_block(x, weights, HEADS, context=context, mask=mask, backend="reference")

    error = (ours() - unfused()).abs().max().item()
    if error > TOLERANCE[dtype]:
        raise SystemExit(f"the kernel is wrong at {sessions} x {frames} x {width}, {dtype}: off by {error:.2g}")
    kernel_us, torch_us = _graph_us(ours, repeats), _graph_us(unfused, repeats)
    name = f"{'cross' if cross else 'self'}_t{frames}_{str(dtype).removeprefix('torch.')}.b{sessions}"
    speedup = statistics.median(torch_us) / statistics.median(kernel_us)
    print(f"{name}: {statistics.median(kernel_us):.1f} us, torch {statistics.median(torch_us):.1f} us, {speedup:.2f} x")
    return {
        f"{name}.kernel_p50": _microseconds(kernel_us, 0.5),
        f"{name}.kernel_p95": _microseconds(kernel_us, 0.95),
        f"{name}.torch_p50": _microseconds(torch_us, 0.5),
        f"{name}.speedup": Figure(value=speedup, unit="1", better="higher", goal=GOAL_SPEEDUP),
    }


def _weights(width: int, source: int, dtype: torch.dtype) -> AttentionWeights:
    def drawn(*shape: int) -> Tensor:
        return (torch.randn(shape, device="cuda") / shape[-1] ** 0.5).to(dtype)

    return AttentionWeights(
        query=drawn(width, width),
        query_bias=drawn(width),
        key_value=drawn(2 * width, source),
        key_value_bias=drawn(2 * width),
        out=drawn(width, width),
        out_bias=drawn(width),
        norm_weight=1 + drawn(width),
        norm_bias=drawn(width),
    )


def _graph_us(call: Callable[[], Tensor], repeats: int) -> list[float]:
    """Microseconds of one call, from replays of a graph that holds `CALLS` of them."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    times = []
    for index in range(repeats + 10):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if index >= 10:
            times.append(begin.elapsed_time(end) * 1000 / CALLS)
    return times


def _microseconds(times: Sequence[float], share: float) -> Figure:
    return Figure(value=sorted(times)[min(len(times) - 1, int(share * len(times)))], unit="us", better="lower")


if __name__ == "__main__":
    sys.exit(main())
