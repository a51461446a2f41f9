"""Which of this machine's levels renders fastest, and whether a rounded one is good enough for a field.

Levels differ in instruction set and in the arithmetic of the MLP (float32, bfloat16, 16-bit fixed point). Their order
by speed is a fact of the machine, measured once per process; how exact one is depends on the field's weights and is
checked for each field.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kernels.native import EXACT, cpu_info
from kernels.ray_march.arrays import HIDDEN, FieldArrays, FrameInputs
from kernels.ray_march.cpu_impl import CpuScene
from kernels.ray_march.synthetic import head_field, head_frame, look_at

MIN_PSNR_DB = 45.0
TIE = 1.05
"""A level must be faster than a more exact one by this factor."""
MAX_FIXED_SIDE = 384  # texels; wider planes would take more than 56 MB with the first layer applied
PROBE_PX = 64
CHECK_PX = 48
REPEATS = 5

_log = logging.getLogger(__name__)


@cache
def levels_by_speed() -> tuple[str, ...]:
    """This machine's levels, fastest first, by rendering a synthetic head for some ten milliseconds each."""
    names = cpu_info().instruction_sets
    names = names[1:] or names  # portable code is never the fastest of several
    if len(names) == 1:
        return names
    field, frame = head_field(grid=64), head_frame(PROBE_PX)
    out = np.empty((PROBE_PX, PROBE_PX, 4), np.float32)
    scenes = {name: CpuScene(field, threads=1, instruction_set=name) for name in names}
    least = dict.fromkeys(names, np.inf)
    for _ in range(REPEATS):
        for name, scene in scenes.items():  # in turn, so that a busy neighbour hits all of them
            start = time.thread_time()
            scene.render(frame, out)
            least[name] = min(least[name], (time.thread_time() - start) * 1e3)
    order = order_levels(least)
    _log.info("ray marcher: %s", ", ".join(f"{name} {least[name]:.2f} ms" for name in order))
    return order


def order_levels(times_ms: dict[str, float]) -> tuple[str, ...]:
    """Fastest first, where float32 counts as faster than what beats it by less than ``TIE``."""
    return tuple(sorted(times_ms, key=lambda name: times_ms[name] * (1.0 if name in EXACT else TIE)))


def prepare_scene(field: FieldArrays, *, threads: int, sample: FrameInputs | None = None) -> CpuScene:
    """The field in the fastest level that renders `sample` within ``MIN_PSNR_DB`` of float32 on this machine.

    Args:
        sample: A typical frame, of a small picture; without one, a frontal camera and no biases.
    """
    return first_good(field, levels_by_speed(), threads=threads, sample=sample or plain_frame())


def first_good(field: FieldArrays, levels: Sequence[str], *, threads: int, sample: FrameInputs) -> CpuScene:
    """The same for levels in the order given; one of float32 is always good enough."""
    exact = next(name for name in levels if name in EXACT)
    expected = None
    for name in levels:
        if name.endswith("i16") and field.planes.shape[1] > MAX_FIXED_SIDE:
            continue
        scene = CpuScene(field, threads=threads, instruction_set=name)
        if name in EXACT:
            return scene
        if expected is None:
            expected = _picture(CpuScene(field, threads=1, instruction_set=exact), sample)
        error = float(np.mean((_picture(scene, sample) - expected) ** 2))
        if error < 10.0 ** (-MIN_PSNR_DB / 10):
            return scene
        _log.warning("ray marcher: %s is not exact enough for this field (mean square error %.2g)", name, error)
    raise AssertionError(f"no float32 level among {levels}")


def plain_frame(size_px: int = CHECK_PX) -> FrameInputs:
    """The whole volume from the front, without biases and displacement."""
    return FrameInputs(
        bias1=np.zeros(HIDDEN, np.float32),
        bias2=np.zeros(HIDDEN, np.float32),
        warp=np.zeros((2, 2, 2, 3), np.float32),
        cam_to_canonical=look_at(yaw=0.0, pitch=0.0, distance=3.2),
        fx=1.2 * size_px,
        fy=1.2 * size_px,
        cx=0.5 * size_px,
        cy=0.5 * size_px,
        height=size_px,
        width=size_px,
    )


def _picture(scene: CpuScene, frame: FrameInputs) -> NDArray[np.float32]:
    out = np.empty((frame.height, frame.width, 4), np.float32)
    scene.render(frame, out)
    return out
