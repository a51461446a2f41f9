"""Measures the avatar's field on held-out frames of its capture: quality, kernel against torch reference, samples.

    python benchmarks/bench_field.py --capture DIR --motion M.npz [--avatar DIR] [--json R.json]

PSNR in dB over 8-bit display values at 256 px. `sequence`: the whole picture with torso, over the avatar's own
background; head = pixels more than half covered by head labels; mouth = the frame's lip box. `novel`: camera turned
instead of the head, head labels only, premultiplied RGBA (torso and camera are still in training, so the torso layer
does not apply).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.ray_march import FrameInputs
from model.avatar import load_avatar
from model.data.capture import Capture, CaptureFrames, load_motion
from model.radiance.camera import HeadPose, cam_to_canonical
from model.radiance.export import field_from_arrays
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid, dilate
from model.radiance.renderer import Intrinsics, render_reference
from model.radiance.serving import AvatarRenderer, field_arrays
from model.results import Figure, new_results, write_results

SIZE_PX = 256
SEQUENCE_STRIDE = 9
REFERENCE_EVERY = 6
TIMED_FRAMES = 30
CAMERA_YAWS_DEG = (20, 10, 0, 10, 20)  # of `novel`, by index modulo 5; both sides together
SWEEP_FRAMES = 40
UNSTEADY_LEVELS = 4.0
FLICKER_FIRST, FLICKER_FRAMES = 90, 30  # speech of the second clip
Picture = NDArray[np.float32]


class Measure:
    """Squared errors by name; PSNR is the mean over frames."""

    def __init__(self) -> None:
        self.psnr: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, found: Picture, wanted: Picture) -> None:
        """One frame's (or region's) values, 0..1."""
        if found.size:
            self.psnr[name].append(-10 * float(np.log10(np.mean((found - wanted) ** 2) + 1e-10)))

    def mean(self, name: str) -> float:
        """Mean over frames, dB."""
        return float(np.mean(self.psnr[name]))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, required=True)
    parser.add_argument("--motion", type=Path, required=True)
    parser.add_argument("--avatar", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    renderer = AvatarRenderer(load_avatar(args.avatar), size_px=SIZE_PX)
    capture, motion = Capture.open(args.capture), load_motion(args.motion)
    measure, samples = Measure(), []
    for split, stride in (("sequence", SEQUENCE_STRIDE), ("novel", 1)):
        frames = capture.frames(split, SIZE_PX, motion, args.cache)
        for count, index in enumerate(range(0, len(frames), stride)):
            inputs = frame_inputs(renderer, frames, index)
            head = renderer.marcher.render(inputs)
            if split == "novel":
                score(
                    measure, f"novel_{CAMERA_YAWS_DEG[index % len(CAMERA_YAWS_DEG)]}deg", renderer, frames, index, head
                )
            samples.append(_samples_per_ray(renderer, head))
            score(measure, split, renderer, frames, index, head)
            if count % REFERENCE_EVERY == 0:
                compare_reference(measure, renderer, inputs, head)
    flicker = measure_flicker(renderer, capture.frames("sequence", SIZE_PX, motion, args.cache))
    render_ms = time_render(renderer, capture, motion, args.cache)
    figures = _figures(measure, float(np.mean(samples)), render_ms)
    figures["flicker_rms_levels"] = Figure(value=round(flicker[0], 2), unit="levels", better="lower")
    figures["true_change_rms_levels"] = Figure(value=round(flicker[1], 2), unit="levels", better="lower")
    conditioning = time_conditioning(renderer)
    figures["conditioning_ms_median"] = Figure(value=round(conditioning, 2), unit="ms", better="lower")
    unsteady, rms = measure_sweep(renderer)
    figures["sweep_unsteady_pixels"] = Figure(value=round(unsteady * 100, 3), unit="%", goal=0.5, better="lower")
    figures["sweep_second_difference_rms"] = Figure(value=round(rms, 3), unit="levels", better="lower")
    for name, figure in figures.items():
        print(f"{name:34} {figure.value:8.2f} {figure.unit}")
    if args.json:
        data = "data/capture: 25 frames of sequence, 60 of novel; neither was trained on"
        write_results(
            args.json,
            new_results(
                figures, command="python benchmarks/bench_field.py --capture CAPTURE --motion M.npz", data=data
            ),
        )
    return 0


def frame_inputs(renderer: AvatarRenderer, frames: CaptureFrames, index: int) -> FrameInputs:
    """The kernel's inputs for a captured frame."""
    space = renderer.avatar.config.space
    camera = cam_to_canonical(frames.head_to_world[index], frames.cam_to_world[index], space)
    return renderer.conditioner.frame_inputs_for_camera(frames.motion[index], frames.rotvec[index], camera, SIZE_PX)


def score(
    measure: Measure, split: str, renderer: AvatarRenderer, frames: CaptureFrames, index: int, head: Picture
) -> None:
    """Whole picture, head and mouth of one frame."""
    if split.startswith("novel"):
        found, wanted = head, frames.head_only(index)
    else:
        under = renderer.underlay(renderer.background).astype(np.float32) / 255
        found = head[..., :3] + (1 - head[..., 3:]) * under
        rgba = frames.rgba[index].astype(np.float32) / 255
        behind = renderer.background.picture(SIZE_PX) / 255
        wanted = np.asarray(rgba[..., :3] + (1 - rgba[..., 3:]) * behind, np.float32)
    covered = frames.head[index] > 127
    x0, y0, x1, y1 = (round(float(v)) for v in frames.mouth_box[index])
    measure.add(f"{split}_whole", found, wanted)
    measure.add(f"{split}_head", found[covered][:, :3], wanted[covered][:, :3])
    measure.add(f"{split}_mouth", found[y0:y1, x0:x1, :3], wanted[y0:y1, x0:x1, :3])


def measure_flicker(renderer: AvatarRenderer, frames: CaptureFrames) -> tuple[float, float]:
    """RMS over the head of the change from frame to frame, in 8-bit levels: (rendered minus true, true).

    The first shows what moves in the rendered film but not in the real one: shimmer, crawling noise.
    """
    wrong, true = [], []
    before: tuple[Picture, Picture] | None = None
    for index in range(FLICKER_FIRST, FLICKER_FIRST + FLICKER_FRAMES):
        head = renderer.marcher.render(frame_inputs(renderer, frames, index))
        covered = (frames.head[index] > 250)[..., None]
        now = (head[..., :3] * covered * 255, frames.head_only(index)[..., :3] * covered * 255)
        if before:
            both = covered & (before[1].sum(-1, keepdims=True) > 0)
            change, wanted = (now[0] - before[0])[both[..., 0]], (now[1] - before[1])[both[..., 0]]
            wrong.append(float(np.mean((change - wanted) ** 2)))
            true.append(float(np.mean(wanted**2)))
        before = now
    return float(np.sqrt(np.mean(wrong))), float(np.sqrt(np.mean(true)))


def measure_sweep(renderer: AvatarRenderer) -> tuple[float, float]:
    """Shimmer in a slow turn of the head (0.1 degrees a frame, still face): second differences of 8-bit luma.

    Returns the share of pixels whose RMS over the sweep exceeds 4 levels, and the RMS of all (rounding to 8 bits alone
    gives about 0.7 where a picture changes).
    """
    motion = np.zeros(32, np.float32)
    poses = [HeadPose(yaw_deg=-2 + 0.1 * i, pitch_deg=0.05 * i) for i in range(SWEEP_FRAMES)]
    luma = np.stack([renderer.render(motion, pose)[:SIZE_PX].astype(np.float32) for pose in poses])
    power = np.diff(luma, n=2, axis=0) ** 2
    return float((np.sqrt(power.mean(0)) > UNSTEADY_LEVELS).mean()), float(np.sqrt(power.mean()))


def compare_reference(measure: Measure, renderer: AvatarRenderer, inputs: FrameInputs, head: Picture) -> None:
    """Kernel against the torch reference, and against a quarter of the step in a wider occupancy."""
    config, arrays = renderer.avatar.config.field_config, renderer.avatar.arrays
    field = field_from_arrays(RadianceField(config), arrays).requires_grad_(False)
    occupancy = OccupancyGrid(torch.from_numpy(field_arrays(renderer.avatar).occupancy))
    wide = OccupancyGrid(dilate(occupancy.occupied, 1))
    conditions = FrameTensors(inputs)
    lens = Intrinsics(inputs.fx, inputs.fy, inputs.cx, inputs.cy)
    camera = torch.from_numpy(inputs.cam_to_canonical)
    reference, _ = render_reference(field, occupancy, conditions.conditions, camera, lens, SIZE_PX)
    measure.add("kernel_against_reference", head, reference.numpy())
    fine, _ = render_reference(field, wide, conditions.conditions, camera, lens, SIZE_PX, step=config.step / 4)
    measure.add("kernel_against_fine", head, fine.numpy())


class FrameTensors:
    """The kernel's per-frame inputs as the module's conditions."""

    def __init__(self, inputs: FrameInputs) -> None:
        from model.radiance.field import FrameConditions

        warp = np.ascontiguousarray(inputs.warp.transpose(3, 2, 1, 0))[None]
        self.conditions = FrameConditions(
            torch.from_numpy(inputs.bias1)[None], torch.from_numpy(inputs.bias2)[None], torch.from_numpy(warp)
        )


def time_render(
    renderer: AvatarRenderer, capture: Capture, motion: NDArray[np.float32], cache: Path | None
) -> list[float]:
    """Milliseconds of conditioning + march + colour for consecutive frames, one thread."""
    frames = capture.frames("sequence", SIZE_PX, motion, cache)
    times = []
    for index in range(TIMED_FRAMES):
        began = time.perf_counter()
        renderer.composite(renderer.marcher.render(frame_inputs(renderer, frames, index)))
        times.append((time.perf_counter() - began) * 1e3)
    return sorted(times)


def time_conditioning(renderer: AvatarRenderer) -> float:
    """Median milliseconds of turning motion and pose into the kernel's inputs."""
    motion, times = np.zeros(32, np.float32), []
    for index in range(TIMED_FRAMES):
        began = time.perf_counter()
        renderer.conditioner.frame_inputs(motion, HeadPose(yaw_deg=index * 0.1), SIZE_PX)
        times.append((time.perf_counter() - began) * 1e3)
    return float(np.median(times))


def _samples_per_ray(renderer: AvatarRenderer, head: Picture) -> float:
    stats = renderer.marcher.render_stats
    return stats.samples / max(1, int((head[..., 3] > 0.01).sum())) if stats else float("nan")


def _figures(measure: Measure, samples_per_ray: float, render_ms: list[float]) -> dict[str, Figure]:
    figures = {
        f"{name}_psnr": Figure(value=round(measure.mean(name), 2), unit="dB", better="higher")
        for name in sorted(measure.psnr)
    }
    figures["samples_per_head_ray"] = Figure(value=round(samples_per_ray, 2), unit="samples", better="lower")
    median = render_ms[len(render_ms) // 2]
    figures["frame_ms_median"] = Figure(value=round(median, 2), unit="ms", better="lower")
    return figures


if __name__ == "__main__":
    raise SystemExit(main())
