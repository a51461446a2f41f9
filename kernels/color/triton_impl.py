"""Composite and RGB to I420 on a GPU, in Triton: one program for each block of 2 x 2 cells of a slot."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from kernels.color.reference import BT601
from kernels.color.shapes import BLOCK_CELLS, NUM_WARPS

Y_R, Y_G, Y_B = (tl.constexpr(float(k)) for k in BT601[0])
U_R, U_G, U_B = (tl.constexpr(float(k)) for k in BT601[1])
V_R, V_G, V_B = (tl.constexpr(float(k)) for k in BT601[2])


def composite_i420_triton(rgba: Tensor, underlay: Tensor, which: Tensor | None, out: Tensor) -> None:
    """Triton half of :func:`kernels.color.composite_i420_slots`; arguments are already checked.

    Runs on torch's current stream. The first call for a size compiles, so make one before capturing a graph.
    """
    slots, height, width, _ = rgba.shape
    cells = ((height + 1) // 2) * ((width + 1) // 2)
    composite_i420_kernel[(triton.cdiv(cells, BLOCK_CELLS), slots)](
        rgba,
        underlay,
        which if which is not None else rgba,  # not read
        out,
        height,
        width,
        HAS_WHICH=which is not None,
        BLOCK=BLOCK_CELLS,
        num_warps=NUM_WARPS,
        enable_fp_fusion=False,  # products and sums are rounded one by one, as in the reference
    )


@triton.jit(do_not_specialize=["height", "width"])  # a side of 1 would become a constant, which has no type
def composite_i420_kernel(rgba, underlay, which, out, height, width, HAS_WHICH: tl.constexpr, BLOCK: tl.constexpr):
    """Arguments as in `i420_kernel.cu`, whose arithmetic this repeats."""
    slot = tl.program_id(1).to(tl.int64)
    cells_x = (width + 1) // 2
    cells = cells_x * ((height + 1) // 2)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = cell < cells
    x, y = 2 * (cell % cells_x), 2 * (cell // cells_x)
    right, below = tl.minimum(x + 1, width - 1), tl.minimum(y + 1, height - 1)
    pixels = height.to(tl.int64) * width
    picture = tl.load(which + slot) if HAS_WHICH else slot
    heads = rgba + 4 * pixels * slot
    under = underlay + 3 * pixels * picture
    luma = out + (pixels + 2 * cells) * slot
    r00, g00, b00 = _pixel(heads, under, luma, y * width + x, inside)
    r01, g01, b01 = _pixel(heads, under, luma, y * width + right, inside)
    r10, g10, b10 = _pixel(heads, under, luma, below * width + x, inside)
    r11, g11, b11 = _pixel(heads, under, luma, below * width + right, inside)
    r = ((r00 + r01) + (r10 + r11)) * 0.25
    g = ((g00 + g01) + (g10 + g11)) * 0.25
    b = ((b00 + b01) + (b10 + b11)) * 0.25
    chroma = luma + pixels + cell
    tl.store(chroma, _channel(r, g, b, U_R, U_G, U_B, 128.5), mask=inside)
    tl.store(chroma + cells, _channel(r, g, b, V_R, V_G, V_B, 128.5), mask=inside)


@triton.jit
def _pixel(heads, under, luma, at, inside):
    """Composite the pixels at `at`, store their luma, and return red, green and blue."""
    behind = 1.0 - tl.load(heads + 4 * at + 3, mask=inside, other=0.0)
    r = _over(heads + 4 * at, under + 3 * at, behind, inside)
    g = _over(heads + 4 * at + 1, under + 3 * at + 1, behind, inside)
    b = _over(heads + 4 * at + 2, under + 3 * at + 2, behind, inside)
    tl.store(luma + at, _channel(r, g, b, Y_R, Y_G, Y_B, 16.5), mask=inside)
    return r, g, b


@triton.jit
def _over(head, under, behind, inside):
    above = tl.load(head, mask=inside, other=0.0) * 255.0
    value = above + behind * tl.load(under, mask=inside, other=0).to(tl.float32)
    return tl.minimum(tl.maximum(value, 0.0), 255.0)


@triton.jit
def _channel(r, g, b, kr, kg, kb, offset):
    """Cut off: positive, and `offset` holds the half that rounds to nearest."""
    return (((r * kr + g * kg) + b * kb) + offset).to(tl.int32).to(tl.uint8)
