"""What a sample costs in training: face analysis, speech features, steps of the motion presets, an avatar by `adapt`.

    python benchmarks/bench_cost.py [--price-per-core-hour 0.04] [--json benchmarks/results/cost.json]

CPU time of this process, all its threads, never wall time: what else the machine does changes it little. Torch has one
thread. Each part runs on the code that trains; nothing that it makes is kept. `scripts/figures_table.py` multiplies the
figures by VoxCeleb2's published size (`model/cost.py`, docs/scaling.md). On CPUs only: no GPU was ever timed by it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from model.avatar import load_avatar
from model.checkpoint import load_checkpoint
from model.data.clip_analysis import AnalysisSettings, analyse_clip
from model.data.clip_types import ClipSource
from model.data.features import ClipFeatures, load_clips
from model.data.grid import list_grid
from model.diffusion.unet import TemporalUNet
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.motion_stack import ASSETS
from model.results import Figure, new_results, write_results
from model.speech.speech_file import load_speech
from model.training.avatar import AvatarTraining
from model.training.avatar_export import export_avatar
from model.training.motion import MotionTrainConfig, motion_step
from model.training.motion_data import Heard, Hearing, HearingConfig
from model.training.motion_items import MotionItems
from model.training.motion_loss import MotionLoss
from model.training.motion_targets import load_motion
from model.training.motion_windows import WindowSource
from model.training.presets import motion_preset
from model.training.run import Run
from model.training.video_avatar import VIDEO_PRESETS, begin
from model.training.video_frames import load_video

FPS = 25
NEVER = 1 << 40
T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("NERF_LIPSYNC_DATA", "data")
    landmarker = os.environ.get("NERF_LIPSYNC_FACE_LANDMARKER", "face_landmarker.task")
    parser.add_argument("--grid", type=Path, default=Path(data) / "grid_s1" / "train")
    parser.add_argument("--face-landmarker", type=Path, default=Path(landmarker))
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each kind and motion preset")
    parser.add_argument("--avatar-steps", type=int, default=150, help="of `adapt`'s 600; schedules shrink along")
    parser.add_argument("--price-per-core-hour", type=float, default=0.04, help="in whatever money; an assumption")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in measure(given, Path(folder)):
            figures[name] = figure
            spread = "" if figure.spread is None else f" +-{figure.spread:.3g}"
            print(f"{name:36s} {figure.value:12.4g}{spread} {figure.unit}", flush=True)
    if given.json:
        options = f"--clips {given.clips} --steps {given.steps} --avatar-steps {given.avatar_steps}"
        command = f"python benchmarks/bench_cost.py {options} --price-per-core-hour {given.price_per_core_hour:g}"
        words = f"GRID s1, {given.clips} clips of 3 s (25 fps, 360 x 288); CPU time, one torch thread; a busy machine"
        write_results(given.json, new_results(figures, command=command, data=words))
    return 0


def measure(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Figure]]:
    """Every figure, as it is found; `folder` is for scratch."""
    sources = list_grid(given.grid)[: given.clips]
    settings = AnalysisSettings(face_landmarker=given.face_landmarker)
    yield "prepare.cpu_per_video_s", analysis(sources, settings)
    pictures = analysis(sources[:3], dataclasses.replace(settings, with_pictures=True))
    yield "prepare_pictures.cpu_per_video_s", pictures
    prepared = prepare(given, folder / "clips")
    clips = load_clips(prepared)
    heard, items = hearing(clips, prepared)
    yield "hearing.cpu_per_audio_s", heard
    frames = sum(len(clip.motion) for clip in clips)
    yield "items.bytes_per_video_s", plain(FPS * size_of(items) / frames, "B", n=len(clips))
    for preset in ("lite", "paper"):
        for name, figure in motion(motion_preset(preset), items, folder / preset, given.steps).items():
            yield f"motion_{preset}.{name}", figure
    one = prepare(given, folder / "one", clips=1)
    for name, figure in adapt(one, folder / "avatar", given).items():
        yield f"adapt.{name}", figure
        if name == "training_cpu_per_identity":
            clip_s = VIDEO_PRESETS["adapt"].most_frames / FPS
            yield "adapt.cpu_per_identity", plain(figure.value + clip_s * pictures.value, "CPU s", n=1)
    yield "price_per_core_hour", plain(given.price_per_core_hour, "money")


def analysis(sources: Sequence[ClipSource], settings: AnalysisSettings) -> Figure:
    """CPU seconds for each second of video; the first clip, which also loads the tracker, is done twice."""
    costs = []
    for source in [sources[0], *sources]:
        outcome, cpu_s = timed(partial(analyse_clip, source, settings))
        if not outcome.samples:
            raise SystemExit(f"{source.key} was refused: {outcome.message}")
        costs.append(cpu_s / 3.0)
    return summary(costs[1:], "CPU s")


def prepare(given: argparse.Namespace, out: Path, *, clips: int | None = None) -> Path:
    """The clips as `prepare` writes them, with pictures; not timed."""
    more = ["--pictures", "--workers", "2", "--face-landmarker", str(given.face_landmarker)]
    command = [sys.executable, "-m", "stream_server", "prepare", "grid", str(given.grid), "--out", str(out), *more]
    subprocess.run([*command, "--sample", str(clips or given.clips)], check=True, stderr=subprocess.DEVNULL)
    return out


def hearing(clips: Sequence[ClipFeatures], prepared: Path) -> tuple[Figure, MotionItems]:
    """CPU seconds for each second of sound heard at every hop phase; and the items of all clips."""
    config, known = HearingConfig(), load_motion(prepared)
    heard = Heard(load_speech(ASSETS / "speech.safetensors").model, config)

    def of(clip: ClipFeatures) -> Iterator[Hearing]:
        flow = (clip.mouth_flow, clip.mouth_flow_confidence)
        return (Hearing(clip.sound, known[clip.key], phase, flow=flow) for phase in range(config.hop_frames))

    heard.items(of(clips[0]))  # warm-up
    costs = [timed(partial(heard.items, of(clip)))[1] / (len(clip.motion) / FPS) for clip in clips]
    return summary(costs, "CPU s"), heard.items(one for clip in clips for one in of(clip))


def size_of(items: MotionItems) -> float:
    """Bytes in memory."""
    return float(sum(getattr(items, f.name).nbytes for f in dataclasses.fields(items)))


def motion(config: MotionTrainConfig, items: MotionItems, folder: Path, count: int) -> dict[str, Figure]:
    """CPU seconds of a step: with the true past, with the model's own, and their mean over the whole training."""
    run_config = dataclasses.replace(config.run, device="cpu", save_every=NEVER)
    config = dataclasses.replace(config, run=run_config)
    saved = load_checkpoint(ASSETS / "motion_vae.safetensors", kind="motion-vae", config_cls=VaeConfig)
    vae = MotionVae(saved.config)
    vae.load_state_dict(saved.tensors)
    vae.eval().requires_grad_(False)
    source = WindowSource({"filmed": items}, vae, config.model, config.augment)
    unet = TemporalUNet(config.model)
    run = Run(folder, "motion", unet, run_config)
    loss_of = MotionLoss(copy.deepcopy(vae), config.loss, config.model)
    late = math.ceil(config.augment.own_history_from * run_config.steps)
    figures = {"parameters": plain(sum(p.numel() for p in unet.parameters()) / 1e6, "M")}
    kinds = {}
    for kind, first in (("true_past", 0), ("own_past", late)):
        run.step = first
        costs = [timed(partial(motion_step, unet, source, run, config, loss_of))[1] for _ in range(count + 1)]
        kinds[kind] = summary(costs[1:], "CPU s")
        figures[f"cpu_per_step_{kind}"] = kinds[kind]
    share = late / run_config.steps
    mean = share * kinds["true_past"].value + (1 - share) * kinds["own_past"].value
    more = {"cpu_per_step": plain(mean, "CPU s", n=2 * count), "steps": plain(float(run_config.steps), "steps")}
    return figures | more | {"batch": plain(float(run_config.batch), "windows")}


def adapt(prepared: Path, out: Path, given: argparse.Namespace) -> dict[str, Figure]:
    """CPU seconds of an avatar from one clip by `create --preset adapt`, without preparing the clip."""
    preset, count = VIDEO_PRESETS["adapt"], given.avatar_steps
    config = dataclasses.replace(preset.training, steps=count, minutes=0.0)
    start = load_avatar(None, motion_space=load_motion_space().hash)

    def started() -> AvatarTraining:
        video = load_video(prepared, most_frames=preset.most_frames)
        return begin(video, start, config, given.face_landmarker)

    def exported() -> None:
        space = load_motion_space().hash
        export_avatar(training, out, name="nobody", motion_space=space, licence="none", provenance="a benchmark")

    training, begin_s = timed(started)
    costs = [timed(training.train_step)[1] for _ in range(count)]
    export_s = timed(exported)[1]
    steps, step_s = preset.training.steps, statistics.fmean(costs)
    return {
        "cpu_before_and_after": plain(begin_s + export_s, "CPU s"),
        "cpu_per_step": plain(step_s, "CPU s", n=count),
        "steps": plain(float(steps), "steps"),
        "training_cpu_per_identity": plain(begin_s + export_s + steps * step_s, "CPU s"),
    }


def timed(act: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the CPU seconds of this process and its threads meanwhile."""
    begun = time.process_time()
    result = act()
    return result, time.process_time() - begun


def summary(values: Sequence[float], unit: str) -> Figure:
    """Their mean, which is what sums need; spread is half the range."""
    spread = (max(values) - min(values)) / 2
    return Figure(value=statistics.fmean(values), unit=unit, better="lower", spread=spread, n=len(values))


def plain(value: float, unit: str, *, n: int | None = None) -> Figure:
    """A figure without spread."""
    return Figure(value=value, unit=unit, better="lower", n=n)


if __name__ == "__main__":
    raise SystemExit(main())
