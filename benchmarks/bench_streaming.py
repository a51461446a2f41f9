"""Checks to the last bit that speech features do not depend on how audio arrives, and how fast the log-mel is.

    python benchmarks/bench_streaming.py --audio SPEECH.wav [--random-weights] [--json R.json]

Each `..._difference` is the largest absolute difference found between two ways to the same features, which lie within
-1..1: the encoder in float32 on one thread, hop by hop, unless the name says bfloat16. `--random-weights` tests an
untrained encoder of the shipped size with 80 and then 128 bands, `--audio` any file that FFmpeg reads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.audio_file import read_audio
from model.errors import InputError
from model.motion_stack import load_motion_stack
from model.results import Figure, new_results, write_results
from model.speech.log_mel import BANDS, LogMel, LogMelState
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.speech_stream import SpeechStream
from model.speech.stream import SpeechFeatures, SpeechState
from model.speech.whisper_encoder import EncoderConfig, Precision

PACKETS = (1, 160, 641, 5000)
BATCHES = (1, 3, 8)
BATCH_GOAL = 1e-5
MEL_SPEED_GOAL = 300.0
SECONDS = 8  # of the file
SPEED_SECONDS = 600
HOP_FRAMES = LOOKAHEAD_FRAMES = 2  # of the encoder with random weights
Audio = NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    audio = read_audio(args.audio)[: SECONDS * 16_000]
    figures = mel_figures(audio)
    for label, exact, fast in encoders(args.random_weights):
        figures |= {f"{label}{name}": figure for name, figure in feature_figures(exact, fast, audio).items()}
    for name, figure in figures.items():
        print(f"{name:44s} {figure.value:12.4g} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        weights = "untrained weights" if args.random_weights else "shipped weights"
        command = "python benchmarks/bench_streaming.py" + (" --random-weights" if args.random_weights else "")
        data = f"first {len(audio) / 16_000:.1f} s of {args.audio.name}; {weights}"
        write_results(args.json, new_results(figures, command=f"{command} --audio {args.audio.name}", data=data))
    return 0


def encoders(random_weights: bool) -> list[tuple[str, SpeechFeatures, SpeechFeatures]]:
    """Label of what is tested, and its features in float32 and in bfloat16."""
    if not random_weights:
        return [("", load_motion_stack(precision="fp32").speech, load_motion_stack(precision="bf16").speech)]
    return [(f"{bands}_bands_", untrained(bands, "fp32"), untrained(bands, "bf16")) for bands in BANDS]


def untrained(bands: int, precision: Precision) -> SpeechFeatures:
    """The shipped size with the same random weights every time."""
    torch.manual_seed(0)
    model = SpeechModel(SpeechConfig(encoder=EncoderConfig(num_mels=bands)))
    model.encoder.set_precision(precision)
    return SpeechFeatures(model, hop_frames=HOP_FRAMES, lookahead_frames=LOOKAHEAD_FRAMES)


def mel_figures(audio: Audio) -> dict[str, Figure]:
    """The log-mel alone: packets against whole, and its speed on a long file on one thread."""
    figures = {}
    long = np.resize(audio, SPEED_SECONDS * 16_000)
    for bands in BANDS:
        log_mel = LogMel(bands)
        whole = log_mel.push(audio, LogMelState())
        for packet in PACKETS:
            state = LogMelState()
            parts = [log_mel.push(audio[i : i + packet], state) for i in range(0, len(audio), packet)]
            figures[f"mel_{bands}_packet_{packet}_difference"] = same(
                float(np.abs(np.concatenate(parts) - whole).max())
            )
        start = time.process_time()
        log_mel.push(long, LogMelState())
        speed = SPEED_SECONDS / (time.process_time() - start)
        figures[f"mel_{bands}_speed"] = Figure(value=speed, unit="x real time", goal=MEL_SPEED_GOAL, better="higher")
    return figures


def feature_figures(features: SpeechFeatures, fast: SpeechFeatures, audio: Audio) -> dict[str, Figure]:
    """All differences of one encoder, in float32 and (`fast`) in bfloat16."""
    figures = {}
    whole, fast_whole = streamed(features, audio, len(audio)), streamed(fast, audio, len(audio))
    for packet in PACKETS:
        figures[f"packet_{packet}_difference"] = same(difference(streamed(features, audio, packet), whole))
    figures["bfloat16_packet_641_difference"] = same(difference(streamed(fast, audio, 641), fast_whole))
    figures["future_difference"] = same(future_difference(features, audio))
    stream = SpeechStream(features)
    stream.push(audio[::-1].copy())
    stream.reset()
    figures["reset_difference"] = same(difference(torch.cat([stream.push(audio), stream.flush()]), whole))
    figures["refused_packet_difference"] = same(difference(with_refused_packet(features, audio), whole))
    states = states_at_different_places(features, audio, max(BATCHES))
    alone = torch.cat([features.features([state]) for state in states])
    for sessions in BATCHES:
        value = difference(features.features(states[:sessions]), alone[:sessions])
        figures[f"batch_{sessions}_difference"] = same(value, BATCH_GOAL)
    figures["fixed_slots_difference"] = same(slots_difference(features, states))
    figures["nan_neighbour_difference"] = same(nan_neighbour_difference(features, states))
    return figures


def same(value: float, goal: float = 0.0) -> Figure:
    """A difference that should not be."""
    return Figure(value=value, unit="1", goal=goal, better="lower")


def difference(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference."""
    return float((found - wanted).abs().max())


def streamed(features: SpeechFeatures, audio: Audio, packet: int) -> Tensor:
    """All frames of audio that comes in packets."""
    stream = SpeechStream(features)
    parts = [stream.push(audio[i : i + packet]) for i in range(0, len(audio), packet)]
    return torch.cat([*parts, stream.flush()])


def future_difference(features: SpeechFeatures, audio: Audio) -> float:
    """Committed frames, when what comes after the look-ahead is another sound."""
    heard = len(audio) // 2 // features.hop_samples * features.hop_samples
    committed = SpeechStream(features).push(audio[:heard])
    changes: list[Callable[[Audio], Audio]] = [np.zeros_like, np.ones_like, lambda x: x[::-1] * 8]
    after = [np.concatenate([audio[:heard], change(audio[heard:])]) for change in changes]
    return max(difference(streamed(features, x, 641)[: len(committed)], committed) for x in after)


def with_refused_packet(features: SpeechFeatures, audio: Audio) -> Tensor:
    """All frames, with a packet of NaN handed over (and refused) in the middle."""
    stream, half = SpeechStream(features), len(audio) // 2 + 77
    parts = [stream.push(audio[:half])]
    try:
        stream.push(np.full(5000, np.nan, np.float32))
    except InputError:
        return torch.cat([*parts, stream.push(audio[half:]), stream.flush()])
    raise SystemExit("NaN was not refused")


def states_at_different_places(features: SpeechFeatures, audio: Audio, count: int) -> list[SpeechState]:
    """Sessions that heard different parts of the audio."""
    states = [features.new_state() for _ in range(count)]
    for row, state in enumerate(states):
        for hop in range(8 + row):
            start = (row * 3 + hop) * features.hop_samples
            features.advance(audio[start : start + features.hop_samples], state)
    return states


def slots_difference(features: SpeechFeatures, states: Sequence[SpeechState]) -> float:
    """Each session among idle ones against all sessions together, in its slot of the same number."""
    full, idle = features.features(states), features.new_state()
    worst = 0.0
    for row, state in enumerate(states):
        company = [idle] * len(states)
        company[row] = state
        worst = max(worst, difference(features.features(company)[row], full[row]))
    return worst


def nan_neighbour_difference(features: SpeechFeatures, states: Sequence[SpeechState]) -> float:
    """Sessions beside one whose window holds only NaN; its own features are NaN, and nobody else's."""
    clean = features.features(states)
    poisoned = features.new_state()
    poisoned.columns = np.full_like(poisoned.columns, np.nan)
    found = features.features([*states[:1], poisoned, *states[2:]])
    kept = [0, *range(2, len(states))]
    return difference(found[kept], clean[kept])


if __name__ == "__main__":
    raise SystemExit(main())
