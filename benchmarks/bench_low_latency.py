"""What shorter hops and less look-ahead cost the lips: the shipped network, cut in other ways, on held-out GRID clips.

    python benchmarks/bench_low_latency.py --grid PREPARED --json benchmarks/results/low_latency.json

`PREPARED` is a folder of `nerf-lipsync prepare grid`. No network is trained anew: sound that it was trained with and
does not get counts as not heard. Microphone to mouth is measured by `nerf-lipsync bench latency --low-latency`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from model.data.features import ClipFeatures, load_clips
from model.data.forced_alignment import ForcedAligner
from model.diffusion.generator import StreamTiming
from model.evaluation.lip_evaluation import said_phones, true_clip
from model.evaluation.lip_rows import Method, lip_table
from model.evaluation.lips import lip_clip, stream_motion
from model.motion.space import Motion, load_motion_space
from model.pipeline import FPS
from model.results import Figure, new_results, write_results
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

TIMINGS = ((2, 2), (2, 0), (1, 1), (1, 0))
"""Frames a hop, and of look-ahead; the first is what the network was trained with."""
METRICS = (
    "opening_r",
    "width_r",
    "rounding_r",
    "opening_lag",
    "lmd_iod",
    "velocity_ratio",
    "closure_f1",
    "rounding_f1",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, required=True, help="prepared clips")
    parser.add_argument("--clips", type=int, default=20, help="the first so many")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    clips = load_clips(options.grid)[: options.clips]
    figures = measure(clips, load_motion(options.grid))
    for name, figure in figures.items():
        print(f"{name:36s} {figure.value:9.3f} {figure.unit}")
    if options.json is not None:
        command = f"python benchmarks/bench_low_latency.py --grid PREPARED --clips {options.clips}"
        data = f"GRID s1 val, {len(clips)} clips; one network, trained with hops of 2 frames and 2 of look-ahead"
        write_results(options.json, new_results(figures, command=command, data=data))
    return 0


def measure(clips: Sequence[ClipFeatures], motion: dict[str, Motion]) -> dict[str, Figure]:
    """Lip metrics, algorithmic delay and the network's CPU time by timing."""
    space, aligner = load_motion_space(), ForcedAligner()
    truth = [true_clip(clip.key, motion[clip.key], said_phones(clip, aligner)) for clip in clips]
    methods, figures = {}, {}
    for hop, ahead in TIMINGS:
        drive = SpeechToMotion.load(timing=StreamTiming(hop_frames=hop, lookahead_frames=ahead))
        began_s, frames = time.process_time(), sum(len(one.motion) for one in truth)
        heard = [lip_clip(clip, motion[clip.key], drive) for clip in clips]
        methods[_name(hop, ahead)] = Method([stream_motion(heard, drive)])
        cpu_ms = (time.process_time() - began_s) * 1e3 / frames
        delay_ms = 1e3 / FPS * (hop + ahead - 0.5)
        figures[f"{_name(hop, ahead)}.algorithmic_delay"] = Figure(value=delay_ms, unit="ms", better="lower")
        figures[f"{_name(hop, ahead)}.cpu_per_frame"] = Figure(value=cpu_ms, unit="ms", better="lower")
    table = lip_table("GRID", truth, methods, space)
    for method in methods:
        for metric in METRICS:
            found = table.estimate(method, metric)
            if found is not None and found.clips and np.isfinite(found.mean):
                better = "lower" if metric in ("opening_lag", "lmd_iod") else "higher"
                unit = {"opening_lag": "frames", "lmd_iod": "IOD"}.get(metric, "1")
                figures[f"{method}.{metric}"] = Figure(value=found.mean, unit=unit, better=better)  # type: ignore[arg-type]
    return figures


def _name(hop: int, ahead: int) -> str:
    return f"hop_{hop}_look_ahead_{ahead}"


if __name__ == "__main__":
    sys.exit(main())
