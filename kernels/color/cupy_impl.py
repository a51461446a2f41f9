"""Composite and RGB to I420 on a GPU as one CUDA kernel, through CuPy. Tensors cross by DLPack and are not copied."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.color.reference import BT601

SOURCE = Path(__file__).with_name("i420_kernel.cu")
NAME = "composite_i420"
OPTIONS = ("--std=c++17", "--fmad=false")  # the kernel asks for single roundings itself; this is the second lock
THREADS = (32, 8)


def kernel_source() -> str:
    """CUDA C++ of the kernel, the BT.601 weights as exact hexadecimal floats in front."""
    weights = [
        f"constexpr float {row}_{column} = {float(BT601[i, j]).hex()}f;"
        for i, row in enumerate("YUV")
        for j, column in enumerate("RGB")
    ]
    return "\n".join([*weights, SOURCE.read_text(encoding="utf-8")])


def composite_i420_cupy(rgba: Tensor, underlay: Tensor, which: Tensor | None, out: Tensor) -> None:
    """CuPy half of :func:`kernels.color.composite_i420_slots`; arguments are already checked.

    Runs on torch's current stream, and waits for nothing. The first call on a device compiles, so make one before
    capturing a graph.
    """
    import cupy

    slots, height, width, _ = rgba.shape
    stream = torch.cuda.current_stream(rgba.device)
    cells = ((width + 1) // 2, (height + 1) // 2)
    grid = (*(-(-side // threads) for side, threads in zip(cells, THREADS, strict=True)), slots)
    with cupy.cuda.Device(rgba.device.index), cupy.cuda.ExternalStream(stream.cuda_stream, rgba.device.index):
        heads, under, pictures = (cupy.from_dlpack(tensor.detach()) for tensor in (rgba, underlay, out))
        rows = 0 if which is None else cupy.from_dlpack(which)
        arguments = (heads, under, rows, cupy.int32(height), cupy.int32(width), pictures)
        _kernel(rgba.device.index)(grid, (*THREADS, 1), arguments)


@cache
def _kernel(device_index: int) -> Any:
    """The compiled kernel of one device, which is the current one."""
    import cupy

    del device_index  # the cache's key only
    return cupy.RawKernel(kernel_source(), NAME, options=OPTIONS)
