"""Milliseconds of a hop's ears on one core: the shipped encoder against Whisper's sizes, windows against 30 s padding.

    python benchmarks/bench_speech.py [--rounds 20] [--json benchmarks/results/speech_cpu.json]
    python benchmarks/bench_speech.py --gpu [--rounds 200] [--json benchmarks/results/speech_gpu.json]

A hop is 80 ms of sound and one window of 0.96 s (48 tokens; 30 s are 1500). All variants take turns in every round, so
that a slow spell of a shared machine meets them all, each once untimed and once timed: ratios are medians over rounds
of the two times of a round. CPU figures are the thread's CPU time, GPU figures wall time from mel columns in host
memory to features in host memory. Spreads are half the distance between the quartiles. Weights are random: only
dimensions matter for time.

With --gpu: Whisper large-v3's dimensions at batch 1, 8 and 32, by CUDA graph, eager, and padded to 30 s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.capacity import syllables
from model.results import Figure, new_results, write_results
from model.speech.encoder_graph import BatchedSpeech
from model.speech.log_mel import SAMPLE_RATE
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.stream import SpeechFeatures
from model.speech.whisper_encoder import EncoderConfig, Precision, WindowedEncoder, best_precision

WHISPER_COLUMNS = 3000  # 30 s
HOP_FRAMES, LOOKAHEAD_FRAMES = 2, 2
SHARE_GOAL = 0.10  # of a hop's 80 ms on one core
GPU_GOAL_MS = 2.0  # large-v3 at batch 1
WARM_UP_ROUNDS = 3
CPU_BATCHES, GPU_BATCHES = (1, 4, 8), (1, 8, 32)
SIZES = {
    "shipped": {},
    "tiny": {"width": 384, "num_heads": 6, "num_layers": 4},
    "base": {"width": 512, "num_heads": 8, "num_layers": 6},
}
LARGE_V3 = {"num_mels": 128, "width": 1280, "num_heads": 20, "num_layers": 32}
Times = Mapping[str, Sequence[float]]
"""Milliseconds of every round, by variant."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--gpu", action="store_true", help="large-v3's dimensions on the CUDA device, nothing else")
    parser.add_argument("--json", type=Path, help="results file to write")
    args = parser.parse_args(argv)
    if args.gpu and not torch.cuda.is_available():
        parser.exit(2, "bench_speech: --gpu needs a CUDA device, and torch finds none\n")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        figures = measure_gpu(LARGE_V3, torch.device("cuda"), args.rounds) if args.gpu else measure_cpu(args.rounds)
    for name, figure in figures.items():
        spread = "" if figure.spread is None else f" +-{figure.spread:.3f}"
        print(f"{name:44s} {figure.value:10.3f}{spread} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        command = f"python benchmarks/bench_speech.py --rounds {args.rounds}" + (" --gpu" if args.gpu else "")
        data = "random weights of the given dimensions (they do not change the time), synthetic syllables"
        write_results(args.json, new_results(figures, command=command, data=data))
    return 0


def measure_cpu(rounds: int) -> dict[str, Figure]:
    """Encoders by size, length and precision, the whole ears, and batches."""
    native = best_precision(torch.device("cpu"))
    calls: dict[str, Callable[[], object]] = {}
    for size, dims in SIZES.items():
        for length, columns in (("window", EncoderConfig().window_columns), ("30s", WHISPER_COLUMNS)):
            for precision in dict.fromkeys((native, "fp32")):
                config = EncoderConfig(window_columns=columns, **dims)
                calls[f"{size}_{length}_{precision}"] = encoder_call(config, precision)
    for batch in CPU_BATCHES:
        calls |= ears_calls(batch, native)
    times = take_turns(calls, rounds, time.thread_time)
    figures = {f"{name}_ms": summary(values, "ms") for name, values in times.items() if not name.startswith("ears")}
    for size in ("tiny", "base"):
        figures[f"{size}_over_shipped"] = ratio(times, f"{size}_window_{native}", f"shipped_window_{native}")
    for size in SIZES:
        figures[f"{size}_30s_over_window"] = ratio(times, f"{size}_30s_{native}", f"{size}_window_{native}")
    if native != "fp32":
        figures["shipped_fp32_over_bf16"] = ratio(times, "shipped_window_fp32", f"shipped_window_{native}")
    return figures | ears_figures(times)


def encoder_call(config: EncoderConfig, precision: Precision) -> Callable[[], object]:
    """One window through an encoder with random weights."""
    encoder = WindowedEncoder(config).eval()
    encoder.set_precision(precision)
    mel = torch.rand(1, config.num_mels, config.window_columns) * 2 - 1
    return lambda: encoder(mel)


def ears_calls(batch: int, precision: Precision) -> dict[str, Callable[[], object]]:
    """A hop of `batch` sessions as it is served: log-mel, then encoder, heads and mel branch."""
    model = SpeechModel(SpeechConfig())
    model.encoder.set_precision(precision)
    features = SpeechFeatures(model, hop_frames=HOP_FRAMES, lookahead_frames=LOOKAHEAD_FRAMES)
    states = [features.new_state() for _ in range(batch)]
    hops = syllables(50 * features.hop_samples, SAMPLE_RATE).reshape(50, -1)
    turn = 0

    def mel() -> None:
        nonlocal turn
        for state in states:
            features.advance(hops[turn % len(hops)], state)
        turn += 1

    return {f"ears{batch}_mel": mel, f"ears{batch}_features": lambda: features.features(states)}


def ears_figures(times: Times) -> dict[str, Figure]:
    """Parts of the ears for each session, and their share of a hop."""
    hop_ms = HOP_FRAMES * 40.0
    figures: dict[str, Figure] = {}
    for batch in CPU_BATCHES:
        mel, features = (np.array(times[f"ears{batch}_{part}"]) / batch for part in ("mel", "features"))
        figures[f"ears_batch{batch}_mel_ms_per_session"] = summary(mel, "ms")
        figures[f"ears_batch{batch}_encoder_and_fusion_ms_per_session"] = summary(features, "ms")
        share = summary((mel + features) / hop_ms, "of a hop on one core", goal=SHARE_GOAL)
        figures[f"ears_batch{batch}_share_of_hop_per_session"] = share
    return figures


def measure_gpu(dims: Mapping[str, int], device: torch.device, rounds: int) -> dict[str, Figure]:
    """Graph, eager and 30 s at each batch size."""
    calls: dict[str, Callable[[], object]] = {}
    for length, columns in (("window", EncoderConfig().window_columns), ("30s", WHISPER_COLUMNS)):
        model = new_speech(EncoderConfig(window_columns=columns, **dims), device)
        graphs = BatchedSpeech(model, last_frames=HOP_FRAMES + LOOKAHEAD_FRAMES)
        for batch in GPU_BATCHES:
            mel = torch.rand(batch, columns, model.config.encoder.num_mels) * 2 - 1
            calls[f"{length}_eager_batch{batch}"] = eager_call(model, mel, device)
            if length == "window":
                calls[f"window_graph_batch{batch}"] = lambda graphs=graphs, mel=mel: graphs(mel)
    times = take_turns(calls, rounds, time.perf_counter)
    figures = {
        f"large_v3_{name}_ms": summary(values, "ms", GPU_GOAL_MS if name == "window_graph_batch1" else None)
        for name, values in times.items()
    }
    for batch in GPU_BATCHES:
        graph = f"window_graph_batch{batch}"
        figures[f"large_v3_batch{batch}_eager_over_graph"] = ratio(times, f"window_eager_batch{batch}", graph)
        figures[f"large_v3_batch{batch}_30s_over_graph"] = ratio(times, f"30s_eager_batch{batch}", graph)
    return figures


def new_speech(config: EncoderConfig, device: torch.device) -> SpeechModel:
    """A model with random weights on the device, in its best precision."""
    with device:
        model = SpeechModel(SpeechConfig(encoder=config)).eval()
    model.encoder.set_precision(best_precision(device))
    return model


def eager_call(model: SpeechModel, mel: Tensor, device: torch.device) -> Callable[[], object]:
    """The same work as a graph's, launched kernel by kernel; fetching the features waits for the device."""
    return lambda: model(mel.to(device), last_frames=HOP_FRAMES + LOOKAHEAD_FRAMES).features.to("cpu", copy=True)


def take_turns(calls: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> Times:
    """Every call twice a round, the second timed: the first pays for caches that its predecessor took."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            call()
            start = clock()
            call()
            if turn >= WARM_UP_ROUNDS:
                times[name].append((clock() - start) * 1e3)
    return times


def summary(values: Sequence[float] | np.ndarray, unit: str, goal: float | None = None) -> Figure:
    """Median and half the distance between the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return Figure(value=float(middle), unit=unit, goal=goal, better="lower", spread=float(high - low) / 2)


def ratio(times: Times, costly: str, cheap: str) -> Figure:
    """How many times as long one takes as the other, round by round."""
    values = np.array(times[costly]) / np.array(times[cheap])
    low, middle, high = np.percentile(values, (25, 50, 75))
    return Figure(value=float(middle), unit="times", better="higher", spread=float(high - low) / 2)


if __name__ == "__main__":
    raise SystemExit(main())
