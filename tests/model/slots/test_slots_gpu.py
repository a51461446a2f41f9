"""On a GPU: the captured step equals the step, batch equals alone, and both are near what the CPU shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.pipeline import AvatarPipeline
from model.slots.graphs import BucketedStep
from model.slots.pipeline import SlotPipeline
from model.state import Controls
from tests.support.made_speech import made_speech

pytestmark = pytest.mark.gpu
HOP = 1280
LEAST_PSNR_DB = 35.0
ROUNDED = 0.08
"""Unit: deviations of motion; the encoder is bfloat16 on a GPU (as tests/model/test_pipeline.py allows it)."""


@pytest.fixture(scope="module")
def host() -> AvatarPipeline:
    return AvatarPipeline.load(None, size=128, temperature=0.7, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def on_gpu(host: AvatarPipeline) -> SlotPipeline:
    pipeline = SlotPipeline(host, device=torch.device("cuda", 0))
    pipeline.warm_up()
    return pipeline


def hops(seconds: float, seed: int) -> np.ndarray:
    sound = made_speech(seconds, seed=seed)
    return sound[: len(sound) // HOP * HOP].reshape(-1, HOP)


def test_a_captured_step_is_the_step(on_gpu: SlotPipeline) -> None:
    captured = on_gpu.steps[False]
    plain = BucketedStep(captured.step, capture=lambda compute: compute)
    rows = [on_gpu.new_state(seed).row for seed in range(3)]
    for part in hops(0.8, 2):
        given = torch.zeros(3, captured.step.inputs.size_bytes, dtype=torch.uint8)
        captured.step.inputs.split(given)["audio"][:] = torch.from_numpy(part)
        replayed = [out.clone() for out in captured(rows, given)]  # the next call may use the memory again
        wanted = plain(rows, given)
        assert torch.equal(replayed[1], wanted.pictures)
        torch.testing.assert_close(replayed[2], wanted.motion, rtol=0, atol=1e-5)
        rows = list(replayed[0])


def test_the_gpu_shows_what_the_cpu_shows(host: AvatarPipeline, on_gpu: SlotPipeline) -> None:
    theirs, ours = host.new_state(1), on_gpu.new_state(1)
    asked = Controls(mood="smile", yaw_deg=10.0)
    for part in hops(1.6, 2):
        wanted = host.step(part[None], [asked], [theirs])[0]
        got = on_gpu.step(part[None], [asked], [ours])[0]
        assert got.first_frame == wanted.first_frame
        assert np.abs(got.motion - wanted.motion).max(initial=0.0) < ROUNDED
        if len(wanted.frames):
            error = np.mean((got.frames.astype(float) - wanted.frames) ** 2)
            assert 10 * np.log10(255**2 / max(error, 1e-9)) > LEAST_PSNR_DB


def test_a_session_does_not_feel_who_shares_its_batch(on_gpu: SlotPipeline) -> None:
    alone, together = on_gpu.new_state(1), [on_gpu.new_state(seed) for seed in range(1, 6)]
    for part in hops(0.8, 2):
        single = on_gpu.step(part[None], [Controls()], [alone])[0]
        shared = on_gpu.step(np.stack([part] * 5), [Controls()] * 5, together)[0]
        assert np.abs(shared.motion - single.motion).max(initial=0.0) < ROUNDED
