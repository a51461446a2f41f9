"""Shipped block sizes of the color kernel: what the launcher uses and the compile check compiles."""

from __future__ import annotations

from collections.abc import Iterator

from kernels.compile_case import CompileCase

BLOCK_CELLS = 128  # 2 x 2 pixels each
NUM_WARPS = 4


def compile_cases() -> Iterator[CompileCase]:
    """Each variant that is launched: slots with their own underlay, and slots that choose one."""
    for chooses in (False, True):
        yield CompileCase(
            kernel="kernels.color.triton_impl:composite_i420_kernel",
            name="color_i420_chosen" if chooses else "color_i420",
            signature={
                "rgba": "*fp32",
                "underlay": "*u8",
                "which": "*i64" if chooses else "*fp32",
                "out": "*u8",
                "height": "i32",
                "width": "i32",
            },
            constants={"HAS_WHICH": chooses, "BLOCK": BLOCK_CELLS},
            num_warps=NUM_WARPS,
            tensor_cores=False,
        )
