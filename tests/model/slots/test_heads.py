"""Heads by Triton, in its interpreter, equal the native ray marcher's; what surrounds the launch is graph-safe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.ray_march.batch import MarchBatch, Pictures
from model.pipeline import AvatarPipeline
from model.slots.avatars import AvatarTable
from model.slots.heads import TritonHeads
from tests.support.graph_safety import NoHostLooks

ROOT = Path(__file__).parents[3]
SCRIPT = """
import torch
from model.pipeline import AvatarPipeline
from model.slots.avatars import AvatarTable
from model.slots.heads import CpuHeads, TritonHeads
from model.slots.posing import condition_fields, place_heads

shown = AvatarPipeline.load(None, size=16).shown
table = AvatarTable(shown, torch.device("cpu"), capacity=2, most_slots=2, precision="fp32")
angles = torch.tensor([[0.0, 0.0, 0.0], [20.0, -5.0, 3.0]])
avatar = torch.zeros(2, dtype=torch.int64)
motion = torch.zeros(2, 32)
motion[1, :4] = 1.0
place = place_heads(angles, avatar, table.tensors)
field = condition_fields(motion, place.rotvec, avatar, table.tensors)
ours, wanted = (kind(table)(avatar, place.cameras, field.biases, field.warps) for kind in (TritonHeads, CpuHeads))
assert wanted[..., 3].max() > 0.9 and (wanted[0] - wanted[1]).abs().max() > 0.1
psnr_db = -10 * torch.log10((ours - wanted).square().mean())
print("close" if psnr_db > 45 else f"PSNR {psnr_db:.1f} dB")
"""


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_triton_heads_equal_native_ones() -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "close\n", done.stdout + done.stderr


def test_what_surrounds_the_launch_looks_at_no_number(
    pipeline: AvatarPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[tuple[MarchBatch, Pictures]] = []
    monkeypatch.setattr("model.slots.heads.render_into", lambda batch, pictures: launched.append((batch, pictures)))
    table = AvatarTable(pipeline.shown, torch.device("cpu"), capacity=2, most_slots=2, precision="fp16")
    heads = TritonHeads(table)
    given = torch.zeros(3, dtype=torch.int64), torch.rand(3, 3, 4), torch.rand(3, 2, 64), torch.rand(3, 4, 5, 6, 3)
    with NoHostLooks():
        rgba = heads(*given)
    assert rgba.shape == (3, table.size_px, table.size_px, 4)
    ((batch, _),) = launched
    assert batch.warp_table.tolist() == [[0, 4, 5, 6], [360, 4, 5, 6], [720, 4, 5, 6]]
    assert batch.fields.tolist() == [table.any_field().row.tolist()] * 3
    lens = torch.tensor(pipeline.shown.renderer.avatar.config.camera.intrinsics(table.size_px))
    torch.testing.assert_close(batch.cameras, torch.cat([given[1].flatten(1), lens.expand(3, 4)], 1))
