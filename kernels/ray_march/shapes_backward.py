"""Shipped block sizes of the differentiable ray marcher: what is launched, and what the compile check compiles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from kernels.compile_case import CompileCase

FORWARD_RAYS, FORWARD_WARPS = 64, 4  # rays of a program
BACKWARD_RAYS, BACKWARD_WARPS, BACKWARD_WARPS_SM100 = 64, 4, 8  # on sm_100 a field's gradients spill in 4 warps
# Sums of 64 x 64 stay in registers, so that more rays spill, and so do four warps on sm_100.
WEIGHTS_RAYS, WEIGHTS_WARPS, WEIGHTS_WARPS_SM100 = 16, 4, 8

_FLOATS = ("origins", "directions", "t_near", "constants", "planes", "biases", "warp", "sums")
_SIZES = ("side", "grid", "nodes_x", "nodes_y", "nodes_z")
_SHARED = (
    dict.fromkeys(_FLOATS, "*fp32")
    | {"tiles": "*i32", "distance": "*u8", "weights": "*bf16", "samples": "*i32"}
    | dict.fromkeys(_SIZES, "i32")
)


def backward_warps(capability: tuple[int, int] | None) -> int:
    """Warps of a program of the gradients' kernel on a GPU of this capability (None: in the interpreter)."""
    return BACKWARD_WARPS_SM100 if capability is not None and capability >= (10, 0) else BACKWARD_WARPS


def weights_warps(capability: tuple[int, int] | None) -> int:
    """Warps of a program of the weights' kernel."""
    return WEIGHTS_WARPS_SM100 if capability is not None and capability >= (10, 0) else WEIGHTS_WARPS


def compile_cases() -> Iterator[CompileCase]:
    """Forward with and without tracking, backward with a trained and with a frozen field, MLP in bfloat16."""
    module = "kernels.ray_march.triton_backward"
    for track in (True, False):
        yield CompileCase(
            kernel=f"{module}:march_sums_kernel",
            name=f"march_sums_{'tracked' if track else 'plain'}",
            signature=_SHARED | {"t_far": "*fp32", "heaviest": "*fp32" if track else "*i32"},
            constants={"R": FORWARD_RAYS, "TRACK": track, "EMULATE": False},
            num_warps=FORWARD_WARPS,
            fp_fusion=False,
        )
    back = _SHARED | {"transposed": "*bf16", "upstream": "*fp32"}
    buffers = ("d_planes", "d_biases", "d_warp", "d_rays")
    for planes, sm100 in product((True, False), (False, True)):
        yield CompileCase(
            kernel=f"{module}:march_gradients_kernel",
            name=f"march_gradients_{'field' if planes else 'frozen'}{'_sm100' if sm100 else ''}",
            signature=back | dict.fromkeys(buffers, "*fp32"),
            constants={"R": BACKWARD_RAYS, "PLANES": planes, "EMULATE": False},
            num_warps=backward_warps((10, 0) if sm100 else (9, 0)),
            fp_fusion=False,
            architectures=(100,) if sm100 else (80, 86, 89, 90),
        )
    for sm100 in (False, True):
        yield CompileCase(
            kernel=f"{module}:march_weights_kernel",
            name=f"march_gradients_weights{'_sm100' if sm100 else ''}",
            signature=back | {"d_weights": "*fp32", "d_b3": "*fp32"},
            constants={"R": WEIGHTS_RAYS, "EMULATE": False},
            num_warps=WEIGHTS_WARPS_SM100 if sm100 else WEIGHTS_WARPS,
            fp_fusion=False,
            architectures=(100,) if sm100 else (80, 86, 89, 90),
        )
