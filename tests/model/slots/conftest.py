"""The shipped models at 32 px, as the CPU serves them and as slots on the CPU."""

from __future__ import annotations

import pytest
import torch

from kernels.native import cpu_info
from model.pipeline import AvatarPipeline
from model.slots.pipeline import SlotPipeline


@pytest.fixture(scope="package")
def pipeline() -> AvatarPipeline:
    """In float32 on any processor: bfloat16 would round what differs in the last bit to what differs visibly."""
    exact = "avx2" if "avx2" in cpu_info().instruction_sets else "auto"
    pipeline = AvatarPipeline.load(None, size=32, temperature=0.7, instruction_set=exact)
    pipeline.drive.stack.speech.model.encoder.set_precision("fp32")
    return pipeline


@pytest.fixture(scope="package")
def slots(pipeline: AvatarPipeline) -> SlotPipeline:
    return SlotPipeline(pipeline, device=torch.device("cpu"), most_avatars=2)
