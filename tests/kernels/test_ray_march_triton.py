"""The Triton ray marcher: its inputs' checks here; its pictures in a child process, on a GPU or interpreted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernels.checks import KernelInputError
from kernels.ray_march import RayMarcher
from kernels.ray_march.batch import MarchBatch, Pictures, pack_slots, render_batch, render_into, upload_slot
from kernels.ray_march.prepared import PreparedField, chebyshev_distance, pack_weights
from kernels.ray_march.shapes import compile_cases, tile_for
from kernels.ray_march.synthetic import random_field, random_frame

ROOT = Path(__file__).parents[2]
PICTURES = Path(__file__).with_name("ray_march_interpreted.py")
CPU = torch.device("cpu")


def run_pictures(*options: str, timeout_s: float) -> str:
    """The child's last line. It fails here if one of its tests fails or is skipped."""
    command = [sys.executable, "-m", "pytest", str(PICTURES), "-q", "-p", "no:cacheprovider", *options]
    environment = os.environ | ({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    assert "skipped" not in last, last
    return last


@pytest.mark.slow
@pytest.mark.timeout(600)  # 15 s of one core, but the interpreter suffers from whatever runs beside it
def test_pictures() -> None:
    last = run_pictures("-m", "not nightly", "--timeout", "500", timeout_s=580)
    assert int(re.findall(r"(\d+) passed", last)[0]) >= 8


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_larger_pictures() -> None:
    last = run_pictures("--nightly", "-m", "nightly", "--timeout", "900", timeout_s=1750)
    assert int(re.findall(r"(\d+) passed", last)[0]) >= 22


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from kernels.ray_march.shapes import compile_cases
from kernels.ray_march.triton_impl import march_kernel
case = next(case for case in compile_cases() if case.name == "march_fp16_sm9x")
signature = {**case.signature, **dict.fromkeys(case.constants, "constexpr")}
source = triton.compiler.ASTSource(fn=march_kernel, signature=signature, constexprs=dict(case.constants))
options = {"num_warps": case.num_warps, "enable_fp_fusion": case.fp_fusion}
code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
print(*(code.count(name) for name in ("fma.rn.f32", "div.rn.f32", "sqrt.rn.f32")))
"""


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_positions_are_rounded_operation_by_operation() -> None:
    """The machine code fuses nothing but the interpolation, and divides and takes roots exactly."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    interpolations = 2 * 3 * 3 * 8  # before the loop and in it, planes, one of columns twice and one of rows, channels
    assert [int(word) for word in done.stdout.split()] == [interpolations, 2 + 1 + 6, 1]


@pytest.mark.gpu
def test_a_cuda_graph_renders_what_its_buffers_hold() -> None:
    frames = [random_frame(seed, 33, 50) for seed in (1, 2)]
    field = PreparedField(random_field(0), "cuda")
    first, second = (upload_slot(field, frame) for frame in frames)
    batch = pack_slots([first])
    pictures = render_batch([first], 33, 50)  # compiled here
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        render_into(batch, pictures)
    batch.cameras[0], batch.biases[0] = second.camera, second.biases
    batch.warps.copy_(second.warp.flatten())
    graph.replay()
    assert torch.equal(pictures.rgba, render_batch([second], 33, 50).rgba)
    assert not torch.equal(pictures.rgba, render_batch([first], 33, 50).rgba)


@pytest.fixture(scope="module")
def prepared() -> PreparedField:
    return PreparedField(random_field(0), CPU)


def test_an_empty_batch_has_empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # nothing is launched
    pictures = render_batch([], 5, 6, count_samples=True, device=CPU)
    assert pictures.samples is not None
    assert [tuple(t.shape) for t in (pictures.rgba, pictures.depth, pictures.samples)] == [
        (0, 5, 6, 4),
        (0, 5, 6),
        (0, 5, 6),
    ]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("biases", torch.zeros(2, 64, dtype=torch.float16), "biases must be torch.float32, got torch.float16"),
        ("biases", torch.zeros(64, 2).t(), r"biases must be contiguous, got strides \(1, 2\)"),
        ("biases", np.zeros((2, 64), np.float32), "biases must be a tensor, got ndarray"),
        ("warp", torch.zeros(4, 4, 4), r"warp must have shape \(any, any, any, 3\), got \(4, 4, 4\)"),
        ("warp", torch.zeros(4, 1, 4, 3), r"2 to 256 nodes per axis, got shape \(4, 1, 4, 3\)"),
        ("camera", torch.zeros(12), r"camera must have shape \(16\), got \(12,\)"),
        ("camera", torch.zeros(16, device="meta"), "camera must be on cpu, got meta"),
    ],
)
def test_slots_name_what_is_wrong(prepared: PreparedField, name: str, value: Any, told: str) -> None:
    slot = upload_slot(prepared, random_frame(0, 4, 4))
    with pytest.raises(KernelInputError, match=told):
        replace(slot, **{name: value})


def test_batches_name_what_is_wrong(prepared: PreparedField) -> None:
    slot = upload_slot(prepared, random_frame(0, 4, 4))
    batch = pack_slots([slot])
    with pytest.raises(KernelInputError, match=r"fields must be torch.int64, got torch.int32"):
        replace(batch, fields=batch.fields.int())
    with pytest.raises(KernelInputError, match=r"biases must have shape \(1, 2, 64\), got \(2, 2, 64\)"):
        replace(batch, biases=batch.biases.repeat(2, 1, 1))
    other = PreparedField(random_field(0), CPU, precision="fp32")
    with pytest.raises(KernelInputError, match="one precision and device, got fp16 on cpu, fp32 on cpu"):
        pack_slots([slot, replace(slot, field=other)])
    with pytest.raises(KernelInputError, match="fields are on cpu, got a batch on meta"):
        MarchBatch(**{n: getattr(batch, n) for n in batch.__slots__} | {"fields": batch.fields.to("meta")})


@pytest.mark.parametrize(
    ("rgba", "depth", "told"),
    [
        (torch.zeros(1, 4, 5, 3), torch.zeros(1, 4, 5), r"rgba must have shape \(1, any, any, 4\), got \(1, 4, 5, 3\)"),
        (torch.zeros(1, 4, 5, 4), torch.zeros(1, 5, 4), r"depth must have shape \(1, 4, 5\), got \(1, 5, 4\)"),
        (torch.zeros(1, 4, 5, 8)[..., ::2], torch.zeros(1, 4, 5), "rgba must be contiguous"),
        (torch.zeros(1, 0, 5, 4), torch.zeros(1, 0, 5), r"height must be in \[1, 4096\], got 0"),
    ],
)
def test_pictures_name_what_is_wrong(
    prepared: PreparedField, monkeypatch: pytest.MonkeyPatch, rgba: torch.Tensor, depth: torch.Tensor, told: str
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # nothing is launched
    batch = pack_slots([upload_slot(prepared, random_frame(0, 4, 5))])
    with pytest.raises(KernelInputError, match=told):
        render_into(batch, Pictures(rgba=rgba, depth=depth, samples=None))


def test_asked_for_by_name_it_never_falls_back(prepared: PreparedField, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(KernelInputError, match="the tensors are on cpu"):
        render_batch([upload_slot(prepared, random_frame(0, 4, 4))], 4, 4)
    with pytest.raises(KernelInputError, match="the tensors are on cpu"):
        RayMarcher(random_field(0), backend="triton", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(KernelInputError, match="torch finds no CUDA GPU"):
            RayMarcher(random_field(0), backend="triton")


def test_unknown_precision() -> None:
    with pytest.raises(KernelInputError, match="'fp8'"):
        PreparedField(random_field(0), CPU, precision="fp8")  # type: ignore[arg-type]


def test_importing_needs_neither_triton_nor_torch() -> None:
    code = "import sys, kernels.ray_march as r; assert not {'torch', 'triton'} & set(sys.modules); r.RayMarcher"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_distance_is_chebyshev() -> None:
    """Against all pairs: the kernel may skip `distance - 1` voxels only if this is right."""
    occupancy = random_field(1, grid=7, fill=0.02).occupancy
    filled = np.argwhere(occupancy)
    voxels = np.argwhere(np.ones_like(occupancy))
    wanted = np.abs(voxels[:, None] - filled[None]).max(2).min(1).reshape(occupancy.shape)
    np.testing.assert_array_equal(chebyshev_distance(occupancy), wanted)
    assert (chebyshev_distance(np.zeros((3, 3, 3), np.bool_)) == 255).all()
    line = np.zeros((1, 1, 256), np.bool_).repeat(256, 0).repeat(256, 1)
    line[:, :, 0] = True
    assert chebyshev_distance(line)[0, 0, -1] == 255


def test_weights_are_packed_by_input() -> None:
    field = random_field(2)
    packed = pack_weights(field)
    np.testing.assert_array_equal(packed[:64], field.w1[:, 0])
    np.testing.assert_array_equal(packed[48 * 64 :][:64], field.w2[:, 0])
    np.testing.assert_array_equal(packed[(48 + 64) * 64 :][:4], field.w3[:, 0])


def test_every_architecture_has_its_compile_case() -> None:
    cases = list(compile_cases())
    for precision in ("fp16", "bf16", "fp32"):
        for sm in (80, 86, 89, 90, 100):
            fits = [c for c in cases if sm in c.architectures and c.constants["PRECISION"] == precision]
            assert fits
            for case in fits:
                tile = tile_for(precision, sm, count=bool(case.constants["COUNT"]))
                assert case.num_warps == tile.warps and case.registers == tile.registers and not case.fp_fusion
                assert case.constants["KEEP_WEIGHTS"] == tile.keep_weights
                assert (case.constants["TILE_W"], case.constants["TILE_H"]) == (tile.width, tile.height)
