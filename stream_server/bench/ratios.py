"""Quick measurements whose ratios hold on any machine of a kind: kernels, pipeline, one call.

A busy machine slows everything: times are CPU times, the least or the median of many, and each is divided by another of
the same run. The calibration loop (a product of matrices and a pass over memory) stands for the machine itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.color import composite_i420
from kernels.native import cpu_info
from kernels.ray_march import RayMarcher
from model.avatar import DEFAULT_AVATAR, load_avatar
from model.evaluation.pipeline_bench import Encode, Variant, bench_pipeline
from model.pipeline import FPS
from model.radiance.serving import FieldConditioner, served_field
from model.results import Figure
from model.speech.folded_encoder import FoldedEncoder
from model.speech.whisper_encoder import EncoderConfig, Precision, WindowedEncoder, best_precision
from stream_server.bench.caller import Caller
from stream_server.bench.own_server import OwnServer
from stream_server.bench.process_usage import process_usages
from stream_server.bench.voice import Microphone, made_voice

__all__ = ["call_ratios", "ear_ratios", "kernel_ratios", "pipeline_ratios"]

_SIZE_PX = 128
_CALL_SETTLE_S = 4.0
_STAGES = ("encoder", "sampler", "render", "encode")


def kernel_ratios(rounds: int) -> dict[str, Figure]:
    """Ray marcher at 128 px: each instruction set over the best one, the best and colour over the calibration loop."""
    avatar = load_avatar(DEFAULT_AVATAR)
    conditioner = FieldConditioner(avatar.config, avatar.arrays)
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
    frame = conditioner.frame_inputs(motion, avatar.config.rest_pose, _SIZE_PX)
    field, sets = served_field(avatar, conditioner), cpu_info().instruction_sets
    calls: dict[str, Callable[[], object]] = {"calibration": calibration()}
    for name in sets:
        marcher = RayMarcher(field, instruction_set=name)
        calls[name] = lambda marcher=marcher: marcher.render(frame)  # type: ignore[misc]
    rgba, underlay = RayMarcher(field).render(frame), np.zeros((_SIZE_PX, _SIZE_PX, 3), np.uint8)
    calls["color"] = lambda: composite_i420(rgba, underlay)
    least = least_ms(calls, rounds)
    best = cpu_info().best
    found = {
        f"march_{best}_over_calibration": least[best] / least["calibration"],
        "color_over_calibration": least["color"] / least["calibration"],
    }
    gains = {f"march_{slower}_over_{best}": least[slower] / least[best] for slower in sets if slower != best}
    found |= gains
    return {
        name: Figure(value=value, unit="ratio", better="higher" if name in gains else "lower")
        for name, value in found.items()
    }


def ear_ratios(rounds: int) -> dict[str, Figure]:
    """One window of the speech encoder, natively and in PyTorch's best precision: over the calibration loop, and
    PyTorch's float32 over it where that is another."""
    calls: dict[str, Callable[[], object]] = {"calibration": calibration()}
    best = best_precision(torch.device("cpu"))
    precisions: set[Precision] = {"fp32", best}
    for precision in precisions:
        encoder = WindowedEncoder(EncoderConfig()).eval().half()  # as checkpoints hold it
        encoder.set_precision(precision)
        mel = torch.rand(1, encoder.config.num_mels, encoder.config.window_columns) * 2 - 1
        calls[precision] = lambda encoder=encoder, mel=mel: encoder(mel)  # type: ignore[misc]
        if precision == "fp32" and cpu_info().built:
            folded = FoldedEncoder(encoder)
            calls["native"] = lambda folded=folded, mel=mel: folded(mel)  # type: ignore[misc]
    with torch.inference_mode():
        least = least_ms(calls, rounds)
    found: dict[str, Figure] = {}
    for form in {best, "native"} & least.keys():
        found[f"ears_{form}_over_calibration"] = Figure(
            value=least[form] / least["calibration"], unit="ratio", better="lower"
        )
        if form != "fp32":
            found[f"ears_fp32_over_{form}"] = Figure(value=least["fp32"] / least[form], unit="ratio", better="higher")
    return found


def pipeline_ratios(new_encoder: Callable[[int], Encode], seconds: float) -> dict[str, Figure]:
    """A session at 128 px, two steps: each stage and the whole over the calibration loop.

    Not over the whole: a stage that gets faster would make all others look slower. Stages have wall times only: each is
    taken to have its share of the CPU time.
    """
    loop = {"calibration": calibration()}
    before = [least_ms(loop, 1)["calibration"] for _ in range(15)]
    pipeline = bench_pipeline(new_encoder, (Variant("now", _SIZE_PX),), seconds=seconds)
    after = [least_ms(loop, 1)["calibration"] for _ in range(15)]
    machine_ms = float(np.median(before + after))
    cpu_ms = pipeline["now.cpu_share_at_25fps"].value * len(os.sched_getaffinity(0)) * 1000 / FPS
    wall_ms = {name: pipeline[f"now.{name}_ms_per_frame"].value for name in (*_STAGES, "total")}
    return {
        f"pipeline_{cpu_info().best}_{name}_over_calibration": Figure(
            value=cpu_ms * wall_ms[name] / wall_ms["total"] / machine_ms, unit="ratio", better="lower"
        )
        for name in wall_ms
    }


def call_ratios(seconds: float) -> dict[str, Figure]:
    """One call at 128 px to a server of our own: processor time of the media worker over the engine's."""
    with OwnServer("--size", str(_SIZE_PX), "--steps", "1") as server:
        used = asyncio.run(_cpu_by_role(server, seconds))
    return {"call_worker_over_engine": Figure(value=used["worker"] / used["engine"], unit="ratio", better="lower")}


async def _cpu_by_role(server: OwnServer, seconds: float) -> dict[str, float]:
    async with Caller(server.url, Microphone(made_voice(10.0))) as caller:
        await caller.call()
        await caller.first_frame()
        await caller.listen(_CALL_SETTLE_S)
        before = {one.pid: one.cpu_s for one in process_usages(server.pid)}
        await caller.listen(seconds)
        return {one.role: one.cpu_s - before.get(one.pid, 0.0) for one in process_usages(server.pid)}


def calibration() -> Callable[[], object]:
    """A few milliseconds of single-threaded work that no change of ours makes faster or slower."""
    rng = np.random.default_rng(0)
    left: NDArray[np.float32] = rng.standard_normal((256, 256), np.float32)
    wide: NDArray[np.float32] = rng.standard_normal(1 << 20, np.float32)

    def run() -> object:
        product = left
        for _ in range(8):
            product = product @ left * np.float32(0.05)
        return product, np.sqrt(np.abs(wide)).sum()

    return run


def least_ms(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The fastest of each call by this thread's CPU time; all take turns, twice a round, the second timed."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.thread_time()
            call()
            least[name] = min(least[name], (time.thread_time() - start) * 1e3)
    return least
