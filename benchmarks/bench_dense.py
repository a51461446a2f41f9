"""Milliseconds of a hop's networks on one core: motion sampler and speech encoder, PyTorch against `kernels.dense`.

    python benchmarks/bench_dense.py --avx2 [--rounds 30] [--json benchmarks/results/products_cpu.json]

With --avx2 PyTorch is held to AVX2 as well (its environment variables), as on processors without AVX-512: that is the
comparison that counts. All variants take turns in every round, each once untimed and once timed, so that a slow spell
of a shared machine meets them all; times are the thread's CPU time; ratios are medians over rounds. Before each timed
call some megabytes are read, as a rendered frame does: weights come from the last cache or memory.

`sampler_network` is the U-Net as it is trained, which computes in each step what steps share. `sampler_products` and
`encoder_products` are a hop's matrix products alone, on inputs already laid out: what PyTorch cannot do without.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels.dense import Dense
from kernels.native import cpu_info
from model.diffusion.hop_unet import HopUNet
from model.diffusion.unet import TemporalUNet
from model.motion_stack import load_motion_stack
from model.results import Figure, new_results, write_results
from model.speech.folded_encoder import FoldedEncoder
from model.speech.whisper_encoder import WindowedEncoder, best_precision

HELD_TO_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
LEVELS = ("portable", "avx2", "avx512")
EVICTED_FLOATS = 6_000_000
WARM_UP_ROUNDS = 3
KEPT_TOKENS = 8  # of a hop of two frames and two of look-ahead
GOAL = 2.0
Calls = dict[str, Callable[[], object]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--avx2", action="store_true", help="hold PyTorch to AVX2")
    parser.add_argument("--json", type=Path, help="results file to write")
    args = parser.parse_args(argv)
    if args.avx2 and any(os.environ.get(name) != value for name, value in HELD_TO_AVX2.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | HELD_TO_AVX2)  # read when torch loads
    torch.set_num_threads(1)
    with torch.inference_mode():
        figures = measure(args.rounds, bf16=not args.avx2)
    for name, figure in figures.items():
        print(f"{name:44s} {figure.value:10.4g} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        command = f"python benchmarks/bench_dense.py --rounds {args.rounds}" + (" --avx2" if args.avx2 else "")
        data = "shipped weights, random windows"
        write_results(args.json, new_results(figures, command=command, data=data))
    return 0


def measure(rounds: int, *, bf16: bool) -> dict[str, Figure]:
    """Both networks in all forms, their products alone, and what the weights take."""
    stack = load_motion_stack(precision="fp32")
    unet, encoder = stack.generator.unet, stack.speech.model.encoder
    levels = [level for level in LEVELS if level in cpu_info().instruction_sets]
    calls = sampler_calls(unet, levels) | encoder_calls(encoder, levels, bf16=bf16)
    times = take_turns(calls, rounds)
    figures = {f"{name}_ms": summary(values, "ms") for name, values in times.items()}
    for part, torch_form in (
        ("sampler", "network"),
        ("sampler_products", "torch"),
        ("encoder", "torch_fp32"),
        ("encoder_products", "torch"),
    ):
        for level in levels[1:]:
            goal = GOAL if level == "avx2" and not part.endswith("products") else None
            name = f"{part}_{torch_form}_over_{level}"
            figures[name] = ratio(times[f"{part}_{torch_form}"], times[f"{part}_{level}"], goal)
    if "encoder_torch_bf16" in times:
        figures["encoder_torch_bf16_over_avx512"] = ratio(times["encoder_torch_bf16"], times["encoder_avx512"])
    return figures


def sampler_calls(unet: TemporalUNet, levels: Sequence[str]) -> Calls:
    """A hop of one session in two steps."""
    c, seen = unet.config, torch.arange(unet.config.window_frames)
    past = (seen < c.committed_frames).float()[None]
    window = torch.randn(1, c.window_frames, c.latent_size) * past[..., None], past
    heard = torch.randn(1, c.window_frames, c.feature_size), (seen < c.heard_frames)[None]
    noisy, times = (
        torch.randn(1, c.window_frames, c.latent_size),
        [torch.ones(1), torch.full((1,), 0.5), torch.zeros(1)],
    )

    def trained() -> Tensor:
        x = noisy
        for now, then in pairwise(times):
            x = unet(x, now, *window, *heard, then)
        return x

    def folded(network: HopUNet) -> Tensor:
        hop, x = network.hop(*window, *heard), noisy
        for now, then in pairwise(times):
            x = hop.denoise(x, now, then)
        return x

    calls: Calls = {"sampler_network": trained}
    for level in levels:
        network = HopUNet(unet, instruction_set=level)
        calls[f"sampler_{level}"] = lambda network=network: folded(network)  # type: ignore[misc]
    products = recorded(lambda: folded(HopUNet(unet)))
    return calls | product_calls("sampler", products, levels)


def encoder_calls(encoder: WindowedEncoder, levels: Sequence[str], *, bf16: bool) -> Calls:
    """One window, of which the last tokens are wanted."""
    mel = torch.rand(1, encoder.config.num_mels, encoder.config.window_columns) * 2 - 1
    calls: Calls = {"encoder_torch_fp32": lambda: encoder(mel, KEPT_TOKENS)}
    if bf16 and best_precision(torch.device("cpu")) == "bf16":
        rounded = WindowedEncoder(encoder.config).eval()
        rounded.load_state_dict(encoder.state_dict())
        rounded.set_precision("bf16")
        calls["encoder_torch_bf16"] = lambda: rounded(mel, KEPT_TOKENS)
    for level in levels:
        folded = FoldedEncoder(encoder, instruction_set=level)
        calls[f"encoder_{level}"] = lambda folded=folded: folded(mel, KEPT_TOKENS)  # type: ignore[misc]
    products = recorded(lambda: FoldedEncoder(encoder)(mel, KEPT_TOKENS))
    return calls | product_calls("encoder", products, levels)


def recorded(run: Callable[[], object]) -> list[tuple[int, int, int]]:
    """Rows, inputs and outputs of every product that a call makes."""
    shapes, plain = [], Dense.__call__

    def noting(layer: Dense, x: Tensor, **options: object) -> Tensor:
        y = plain(layer, x, **options)  # type: ignore[arg-type]
        shapes.append((y.shape[0] * y.shape[1], layer.channels * layer.taps, layer.outputs))
        return y

    Dense.__call__ = noting  # type: ignore[method-assign, assignment]
    try:
        run()
    finally:
        Dense.__call__ = plain  # type: ignore[method-assign]
    return shapes


def product_calls(part: str, shapes: Sequence[tuple[int, int, int]], levels: Sequence[str]) -> Calls:
    """The products alone, each with weights of its own."""
    torch.manual_seed(0)
    inputs = [torch.randn(1, rows, width) for rows, width, _ in shapes]
    weights = [torch.randn(outputs, width).half().float() for _, width, outputs in shapes]
    biases = [torch.randn(len(weight)) for weight in weights]
    columns = [weight.T.contiguous() for weight in weights]

    def plain() -> None:
        for x, weight, bias in zip(inputs, columns, biases, strict=True):
            torch.addmm(bias, x[0], weight)

    def packed(layers: Sequence[Dense]) -> None:
        for x, layer in zip(inputs, layers, strict=True):
            layer(x)

    calls: Calls = {f"{part}_products_torch": plain}
    for level in levels:
        layers = [Dense(w, b, instruction_set=level) for w, b in zip(weights, biases, strict=True)]
        calls[f"{part}_products_{level}"] = lambda layers=layers: packed(layers)  # type: ignore[misc]
    return calls


def take_turns(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of every round: each call twice, the second timed, after other data passed the caches."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    evicted = torch.zeros(EVICTED_FLOATS)
    for turn in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            call()
            evicted.add_(1.0)
            start = time.thread_time()
            call()
            if turn >= WARM_UP_ROUNDS:
                times[name].append((time.thread_time() - start) * 1e3)
    return times


def summary(values: Sequence[float], unit: str) -> Figure:
    """Median and half the distance between the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return Figure(value=float(middle), unit=unit, better="lower", spread=float(high - low) / 2)


def ratio(costly: Sequence[float], cheap: Sequence[float], goal: float | None = None) -> Figure:
    """How many times as long one takes as the other, round by round."""
    low, middle, high = np.percentile(np.array(costly) / np.array(cheap), (25, 50, 75))
    return Figure(value=float(middle), unit="times", goal=goal, better="higher", spread=float(high - low) / 2)


if __name__ == "__main__":
    raise SystemExit(main())
