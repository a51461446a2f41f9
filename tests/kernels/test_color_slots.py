"""Many pictures to I420 in one call: native code and Triton equal the reference in every byte, whatever the sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.checks import KernelInputError
from kernels.color import composite_i420
from kernels.color.reference import i420_bytes
from kernels.color.slots import composite_i420_slots, has_cupy
from tests.support.color_slots import SIZES, guards_hold, make_slots

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("slots", "height", "width"), [*SIZES, (2, 100, 63), (1, 5, 257), (1, 3, 256)])
@pytest.mark.parametrize("shared", [False, True])
def test_native_equals_reference(slots: int, height: int, width: int, shared: bool) -> None:
    made = make_slots(slots, height, width, shared=shared)
    got = composite_i420_slots(made.rgba, made.underlay, which=made.which, backend="cpu")
    assert torch.equal(got, composite_i420_slots(made.rgba, made.underlay, which=made.which, backend="reference"))
    assert guards_hold(made)


def test_triton_equals_reference() -> None:
    """In Triton's interpreter, which has to be chosen before Triton is imported: in a process of its own."""
    script = (
        "import torch\n"
        "from kernels.color.slots import composite_i420_slots as convert\n"
        "from tests.support.color_slots import SIZES, guards_hold, make_slots\n"
        "for index, size in enumerate(SIZES):\n"
        "    made = make_slots(*size, shared=index % 2 == 1)\n"
        "    given = made.rgba, made.underlay\n"
        "    both = [convert(*given, which=made.which, backend=b) for b in ('triton', 'reference')]\n"
        "    assert torch.equal(*both), size\n"
        "    assert guards_hold(made)\n"
        "print('all equal')\n"
    )
    assert _run(script, interpret="1") == "all equal\n"


def test_triton_rounds_products_and_sums_one_by_one() -> None:
    """The interpreter cannot tell: the compiled kernel must hold no joined multiply-add of floats."""
    script = (
        "from triton.backends.compiler import GPUTarget\n"
        "from triton.compiler import ASTSource, compile\n"
        "from kernels.color.shapes import BLOCK_CELLS\n"
        "from kernels.color.triton_impl import composite_i420_kernel as kernel\n"
        "types = dict(rgba='*fp32', underlay='*u8', which='*i64', out='*u8', height='i32', width='i32')\n"
        "types |= dict(HAS_WHICH='constexpr', BLOCK='constexpr')\n"
        "source = ASTSource(kernel, types, {'HAS_WHICH': True, 'BLOCK': BLOCK_CELLS})\n"
        "for joined in (False, True):\n"
        "    made = compile(source, target=GPUTarget('cuda', 90, 32), options={'enable_fp_fusion': joined})\n"
        "    print(made.asm['ptx'].count('fma.rn.f32') if not joined else 'fma' in made.asm['ptx'])\n"
    )
    assert _run(script, interpret="0") == "0\nTrue\n"


def test_slots_equal_the_call_for_one_picture() -> None:
    made = make_slots(3, 12, 20, shared=True)
    assert made.which is not None
    got = composite_i420_slots(made.rgba, made.underlay, which=made.which)
    for slot, picture in enumerate(made.which.tolist()):
        single = composite_i420(made.rgba[slot].numpy(), made.underlay[picture].numpy())
        np.testing.assert_array_equal(got[slot].view(18, 20).numpy(), single)


def test_no_slots_give_no_pictures() -> None:
    got = composite_i420_slots(torch.zeros(0, 4, 6, 4), torch.zeros(0, 4, 6, 3, dtype=torch.uint8))
    assert got.shape == (0, i420_bytes(4, 6)) == (0, 36)


def test_odd_chroma_counts_the_last_pixel_twice() -> None:
    """One white column of three: the second cell is white alone, the first holds black only."""
    underlay = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    underlay[0, 0, 2, 2] = 255  # blue
    got = composite_i420_slots(torch.zeros(1, 1, 3, 4), underlay)[0].tolist()
    assert got == [16, 16, 41, 128, 240, 128, 110]


def test_colors_out_of_range_saturate() -> None:
    rgba = torch.zeros(1, 2, 2, 4)
    rgba[..., 3] = 1.0
    rgba[0, 0] = torch.tensor([40.0, 40.0, 40.0, 1.0])
    rgba[0, 1] = torch.tensor([-3.0, -3.0, -3.0, 1.0])
    for backend in ("reference", "auto"):
        got = composite_i420_slots(rgba, torch.zeros(1, 2, 2, 3, dtype=torch.uint8), backend=backend)  # type: ignore[arg-type]
        assert got[0].tolist() == [235, 235, 16, 16, 128, 128]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgba": torch.zeros(2, 4, 6, 3)}, r"rgba must be a tensor \(N, H, W, 4\), got \(2, 4, 6, 3\)"),
        ({"rgba": torch.zeros(2, 4, 6, 4).half()}, "rgba must be torch.float32, got torch.float16"),
        ({"rgba": torch.zeros(2, 4, 4, 6).transpose(2, 3)}, r"rgba must be contiguous, got strides \(96, 24, 1, 6\)"),
        ({"underlay": torch.zeros(1, 4, 6, 3, dtype=torch.uint8)}, r"underlay must have shape \(2, 4, 6, 3\)"),
        ({"underlay": torch.zeros(2, 4, 6, 3, device="meta", dtype=torch.uint8)}, "underlay must be on cpu, got meta"),
        ({"underlay": np.zeros((2, 4, 6, 3), np.uint8)}, "underlay must be a tensor, got ndarray"),
        ({"which": torch.zeros(3, dtype=torch.int64)}, r"which must have shape \(2,\), got \(3,\)"),
        ({"which": torch.zeros(2, dtype=torch.int32)}, "which must be torch.int64, got torch.int32"),
        ({"out": torch.zeros(2, 35, dtype=torch.uint8)}, r"out must have shape \(2, 36\), got \(2, 35\)"),
        ({"backend": "cuda"}, "backend must be one of .*, got 'cuda'"),
        ({"backend": "triton"}, "backend 'triton' asked for, but the tensors are on cpu"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "rgba": torch.zeros(2, 4, 6, 4),
        "underlay": torch.zeros(2, 4, 6, 3, dtype=torch.uint8),
    }
    with pytest.raises(KernelInputError, match=message):
        composite_i420_slots(**(arguments | change))  # type: ignore[arg-type]


def test_cupy_is_refused_without_a_gpu_in_plain_words() -> None:
    wanted = "the tensors are on cpu" if has_cupy() else r"not installed: pip install 'nerf-lipsync\[gpu\]'"
    with pytest.raises(KernelInputError, match=wanted):
        composite_i420_slots(torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 3, dtype=torch.uint8), backend="cupy")


def _run(script: str, *, interpret: str) -> str:
    """What a Python process prints that has Triton's interpreter on ("1") or off ("0")."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TRITON_INTERPRET": interpret, "PYTHONPATH": paths}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
