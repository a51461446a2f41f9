"""Shipped tile sizes of the Triton ray marcher: data that the launcher reads and the compile check compiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.compile_case import CompileCase, Constant

FIELD_WORDS = 8  # int64 of a field's row (triton_parts.py)
STAGES = 2
NEWEST_WITHOUT_WGMMA = 89  # sm_80 to sm_89 take the weights from registers, later ones from shared memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A program's pixels and how it is compiled.

    keep_weights: Load the MLP before the loop. On sm_90 and sm_100 it then stays in shared memory; before, it would
        take about 80 more registers.
    registers: `maxnreg`, where the compiler takes more than it needs.
    """

    width: int
    height: int
    warps: int
    keep_weights: bool
    registers: int | None = None


def tile_for(precision: str, sm: int) -> Tile:
    """The tile for weights of a precision ("fp16", "bf16", "fp32") on an architecture (80, 86, 89, 90, 100)."""
    early = sm <= NEWEST_WITHOUT_WGMMA
    if precision == "fp32":
        return Tile(width=8, height=4, warps=8, keep_weights=False)  # no tensor cores: 8 x 8, or 4 warps, would spill
    return Tile(width=8, height=8, warps=4, keep_weights=not early, registers=128 if early else None)


def tile_constants(tile: Tile, precision: str, *, count: bool, emulate: bool = False) -> dict[str, Constant]:
    """The kernel's constants."""
    return {
        "FIELD_WORDS": FIELD_WORDS,
        "PRECISION": precision,
        "TILE_W": tile.width,
        "TILE_H": tile.height,
        "KEEP_WEIGHTS": tile.keep_weights,
        "COUNT": count,
        "EMULATE": emulate,
    }


def compile_cases() -> Iterator[CompileCase]:
    """Each precision on the architectures that share a tile; with the count of samples, which `render` asks for."""
    for precision in ("fp16", "bf16", "fp32"):
        yield _case(f"march_{precision}_sm8x", precision, (80, 86, 89), count=False)
        yield _case(f"march_{precision}_sm9x", precision, (90, 100), count=False)
    yield _case("march_count_fp16_sm8x", "fp16", (80, 86, 89), count=True)
    yield _case("march_count_fp16_sm9x", "fp16", (90, 100), count=True)


def _case(name: str, precision: str, architectures: tuple[int, ...], *, count: bool) -> CompileCase:
    tile = tile_for(precision, architectures[0])
    signature = {
        "fields": "*i64",
        "cameras": "*fp32",
        "biases": "*fp32",
        "warps": "*fp32",
        "warp_table": "*i64",
        "rgba": "*fp32",
        "depth": "*fp32",
        "height": "i32",
        "width": "i32",
    }
    constants = tile_constants(tile, precision, count=count)
    if count:
        signature["counts"] = "*i32"
    else:
        constants["counts"] = None
    return CompileCase(
        kernel="kernels.ray_march.triton_impl:march_kernel",
        name=name,
        signature=signature,
        constants=constants,
        num_warps=tile.warps,
        num_stages=STAGES,
        divisible=("height", "width"),
        tensor_cores=precision != "fp32",
        registers=tile.registers,
        fp_fusion=False,
        architectures=architectures,
    )
