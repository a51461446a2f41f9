"""The CUDA source that CuPy compiles, compiled for the host: every byte equals the reference."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from kernels.color.cupy_impl import THREADS, kernel_source
from kernels.color.slots import composite_i420_slots
from tests.support.color_slots import SIZES, guards_hold, make_slots

HOST = Path(__file__).with_name("color_host.cpp")


@pytest.fixture(scope="module")
def run_grid(tmp_path_factory: pytest.TempPathFactory) -> ctypes._CFuncPtr:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.fail("no C++ compiler: the CUDA source cannot be tested; install g++")
    folder = tmp_path_factory.mktemp("color")
    source = folder / "kernel.inc"
    source.write_text(kernel_source())
    library = folder / "color.so"
    define = f'-DKERNEL_SOURCE="{source}"'
    flags = ["-O1", "-std=c++17", "-ffp-contract=off", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, define, str(HOST), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).run_grid
    function.restype = None
    return function


@pytest.mark.parametrize(("slots", "height", "width"), SIZES)
@pytest.mark.parametrize("shared", [False, True])
def test_source_equals_reference(run_grid: ctypes._CFuncPtr, slots: int, height: int, width: int, shared: bool) -> None:
    made = make_slots(slots, height, width, shared=shared)
    wanted = composite_i420_slots(made.rgba, made.underlay, which=made.which, backend="reference")
    room = torch.full((wanted.numel() + 2,), 77, dtype=torch.uint8)
    grid = [-(-((side + 1) // 2) // threads) for side, threads in zip((width, height), THREADS, strict=True)]
    pointer = ctypes.c_void_p
    run_grid(
        pointer(made.rgba.data_ptr()),
        pointer(made.underlay.data_ptr()),
        pointer(made.which.data_ptr() if made.which is not None else 0),
        *(slots, height, width, *grid, *THREADS),
        pointer(room.data_ptr() + 1),
    )
    assert torch.equal(room[1:-1].view(wanted.shape), wanted)
    assert room[0] == room[-1] == 77
    assert guards_hold(made)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["triton", "cupy"])
@pytest.mark.parametrize(("slots", "height", "width"), [*SIZES, (4, 512, 512)])
def test_gpu_equals_reference(slots: int, height: int, width: int, backend: str) -> None:
    made = make_slots(slots, height, width, shared=True)
    assert made.which is not None
    on_gpu = (t.cuda() for t in (made.rgba, made.underlay, made.which))
    rgba, underlay, which = on_gpu
    got = composite_i420_slots(rgba, underlay, which=which, backend=backend)  # type: ignore[arg-type]
    wanted = composite_i420_slots(made.rgba, made.underlay, which=made.which, backend="reference")
    assert torch.equal(got.cpu(), wanted)
