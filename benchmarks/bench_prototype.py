"""The shipped kernel against the prototype that settled its shape (design.md, section 5), in one run on one field.

    python benchmarks/bench_prototype.py --prototype DIR [--avatar DIR] [--repeats 60] [--json R.json]

DIR holds the prototype's `fused2.cpp` and `fz.py`, which are no part of this repository. It has no warp grid, so it is
compared with our kernel twice: without a warp (the same picture) and with the frame's own (what serving pays). Calls
alternate and are timed by their thread's CPU time.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from model.avatar import load_avatar
from model.radiance.serving import FieldConditioner, field_arrays
from model.results import Figure, new_results, write_results

SIZE_PX = 256
GOAL_RATIO = 1.3
STEP = 2 / 96
TERMINATION = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prototype", type=Path, required=True)
    parser.add_argument("--avatar", type=Path, help="avatar folder; the shipped one if not given")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    avatar = load_avatar(args.avatar)
    conditioner, field = FieldConditioner(avatar.config, avatar.arrays), field_arrays(avatar)
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
    frame = conditioner.frame_inputs(motion, avatar.config.rest_pose, SIZE_PX)
    still = dataclasses.replace(frame, warp=np.zeros_like(frame.warp))
    marcher = RayMarcher(field, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        prototype = prototype_renderer(args.prototype, Path(folder), field, frame)
        difference = float(((marcher.render(still) - prototype()) ** 2).mean())
        times = alternate_ms(
            {
                "prototype": prototype,
                "kernel_without_warp": lambda: marcher.render(still),
                "kernel": lambda: marcher.render(frame),
            },
            args.repeats,
        )
    figures = figures_of(times, -10 * float(np.log10(difference + 1e-12)))
    for name, figure in figures.items():
        print(f"{name:38s} {figure.value:10.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if args.json:
        data = f"avatar {avatar.config.name}, field {avatar.config.field_hash[:12]}, {SIZE_PX} px, one thread"
        command = f"python benchmarks/bench_prototype.py --prototype DIR --repeats {args.repeats}"
        write_results(args.json, new_results(figures, command=command, data=data))
    return 0


def prototype_renderer(
    source: Path, folder: Path, field: FieldArrays, frame: FrameInputs
) -> Callable[[], NDArray[np.float32]]:
    """Build the prototype with g++ and give it our field: a call renders the frame, (size, size, 4)."""
    compiler = shutil.which("g++")
    if compiler is None or not (source / "fused2.cpp").is_file():
        sys.exit(f"need g++ and {source / 'fused2.cpp'}")
    library = folder / "fused.so"
    flags = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-DIL=4"]
    subprocess.run([compiler, *flags, str(source / "fused2.cpp"), "-o", str(library)], check=True)
    sys.path.insert(0, str(source))
    module: Any = importlib.import_module("fz")
    renderer = module.Fz(str(library))
    layers = ((field.w1, frame.bias1), (field.w2, frame.bias2), (field.w3, field.b3))
    network = SimpleNamespace(
        R=field.planes.shape[1], planes=torch.tensor(field.planes.astype(np.float32)).permute(0, 3, 1, 2)
    )
    for name, (weight, bias) in zip(("l1", "l2", "l3"), layers, strict=True):
        setattr(network, name, SimpleNamespace(weight=torch.tensor(weight), bias=torch.tensor(bias)))
    renderer.scene(network, module.chebdist(torch.tensor(field.occupancy)))
    renderer.points(32)
    camera = np.eye(4, dtype=np.float32)
    camera[:3] = frame.cam_to_canonical
    camera[:3, 1:3] *= -1  # its camera looks along -z, y up
    focal = frame.fx / (SIZE_PX / 2)

    def render() -> NDArray[np.float32]:
        cells = renderer.near(camera, SIZE_PX, 8, focal)
        picture, _, _ = renderer.render(
            camera, SIZE_PX, skip=0, dt=STEP, teps=TERMINATION, wave=1, bf=1, cell=cells, cq=8, foc=focal
        )
        return np.asarray(picture, np.float32)

    return render


def alternate_ms(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of each call, in turn, after one warm-up each."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            begun = time.thread_time()
            call()
            times[name].append((time.thread_time() - begun) * 1e3)
    return times


def figures_of(times: dict[str, list[float]], same_picture_db: float) -> dict[str, Figure]:
    """Ratios of the fastest calls first; milliseconds beside them."""
    fastest = {name: min(values) for name, values in times.items()}
    figures = {
        f"{name}_over_prototype": Figure(
            value=fastest[name] / fastest["prototype"], unit="x", goal=GOAL_RATIO, better="lower"
        )
        for name in ("kernel", "kernel_without_warp")
    }
    figures["same_picture_psnr"] = Figure(value=same_picture_db, unit="dB", goal=None, better="higher")
    for name, value in fastest.items():
        figures[f"{name}_ms_min"] = Figure(value=value, unit="ms", goal=None, better="lower")
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
