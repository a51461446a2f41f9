"""The step holds nothing that a CUDA graph cannot: no look at numbers, no copy between devices, no size from data."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from model.slots.avatars import AvatarTable
from model.slots.heads import CpuHeads
from model.slots.pipeline import SlotPipeline
from model.slots.step import FixedSlotStep
from tests.support.graph_safety import HostLookError, NoHostLooks, fake_cuda

pytestmark = pytest.mark.timeout(600)  # every operation passes through Python here: slow on a busy machine


class OneKernel:
    """Heads as a graph sees them: one launch, whatever happens in it."""

    def __init__(self, table: AvatarTable) -> None:
        self._heads = CpuHeads(table)

    def __call__(self, avatar: Tensor, cameras: Tensor, biases: Tensor, warps: Tensor) -> Tensor:
        with _disable_current_modes():
            return self._heads(avatar, cameras, biases, warps)


class NoPicture:
    """Heads of the right size that hold nothing."""

    def __init__(self, size_px: int) -> None:
        self._size_px = size_px

    def __call__(self, avatar: Tensor, cameras: Tensor, biases: Tensor, warps: Tensor) -> Tensor:
        size = self._size_px
        assert cameras.shape == (len(avatar), 3, 4) and biases.shape == (len(avatar), 2, 64) and warps.ndim == 5
        return torch.empty(len(avatar), size, size, 4, device=avatar.device)


@pytest.mark.parametrize("follows", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_the_step_looks_at_no_number(slots: SlotPipeline, follows: bool) -> None:
    step = copy.copy(slots.steps[follows].step)
    step.heads = OneKernel(slots.table)
    rows, given = example(slots, step)
    with torch.inference_mode(), NoHostLooks() as mode:
        safe = step(rows, given)
    plain = slots.steps[follows].step(rows, given)
    for ours, wanted in zip(safe, plain, strict=True):
        assert torch.equal(ours, wanted)
    assert mode.calls["linear"] > 40 and sum(mode.calls.values()) > 500, "the networks did not run under the mode"


@pytest.mark.parametrize("follows", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_the_step_stays_on_its_device(slots: SlotPipeline, follows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors that claim to be on a GPU: whatever was made on the host would not go together with them."""
    step = copy.copy(slots.steps[follows].step)
    rows, given = example(slots, step)
    monkeypatch.setattr("model.slots.step.composite_i420_slots", picture_like)
    monkeypatch.setattr("kernels.backend._cuda_problem", lambda index: "nothing runs on tensors that hold nothing")
    bare = copy.deepcopy(step_without_table(step))
    with torch.inference_mode(), fake_cuda() as on_gpu:
        moved = on_gpu(bare)
        moved.heads = NoPicture(slots.table.size_px)
        moved.table = copy.copy(slots.table)
        moved.table.tensors = {name: on_gpu(tensor) for name, tensor in slots.table.tensors.items()}
        moved.table.pictures = on_gpu(slots.table.pictures)
        out = moved(on_gpu(rows), on_gpu(given))
    assert [part.device.type for part in out] == ["cuda"] * 4
    assert out.rows.shape == rows.shape and out.motion.shape == (3, 2, 32)


def test_the_checks_find_what_they_are_for() -> None:
    values = torch.arange(4.0)
    for look in (
        lambda x: x.sum().item(),
        lambda x: x[x > 1],
        lambda x: x.nonzero(),
        lambda x: torch.unique(x),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]),
        lambda x: x if x[0] > 1 else -x,
    ):
        with NoHostLooks(), pytest.raises(HostLookError):
            look(values)
    with fake_cuda() as on_gpu, pytest.raises(RuntimeError):
        on_gpu(values) + torch.arange(4.0)


def step_without_table(step: FixedSlotStep) -> FixedSlotStep:
    """A copy that shares nothing that must not be copied."""
    bare = copy.copy(step)
    bare.table = bare.heads = None  # type: ignore[assignment]
    return bare


def picture_like(rgba: Tensor, underlay: Tensor, which: Tensor | None = None) -> Tensor:
    """What the color kernel returns; kernels cannot run on tensors that hold nothing."""
    assert rgba.device == underlay.device and (which is None or which.device == rgba.device)
    return torch.empty(len(rgba), rgba[0, :, :, 0].numel() * 3 // 2, dtype=torch.uint8, device=rgba.device)


def example(slots: SlotPipeline, step: FixedSlotStep) -> tuple[Tensor, Tensor]:
    """Rows and inputs of three slots with sound in them."""
    rows = torch.stack([slots.new_state(seed).row for seed in range(3)])
    given = torch.zeros(3, step.inputs.size_bytes, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    step.inputs.split(given)["audio"][:] = torch.from_numpy(rng.normal(0.0, 0.1, (3, 1280)).astype(np.float32))
    return rows, given
