"""What the offline compile check compiles: one `CompileCase` for each variant of a Triton kernel that is launched.

A kernel package lists its cases in `shapes.py` (or `shapes_<part>.py`) as ``compile_cases() -> Iterable[CompileCase]``.
The block sizes and warps there are data that the launcher reads too: nothing is searched for at start. Neither this
module nor a `shapes` module imports triton.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernels.checks import KernelInputError

Constant = int | float | bool | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileCase:
    """One compiled variant.

    kernel: `module:function` of the `@triton.jit` function; imported when it is compiled.
    name: Unique, without dots: figures are named `<name>.sm<NN>.<metric>`.
    signature: Each run-time argument and its Triton type: `*fp16` pointer, `i32`, `i64`, `fp32`.
    constants: Each `tl.constexpr` argument's value (a type as text: `tl.float16`); also arguments that are None.
    divisible: Integer arguments that are multiples of 16 when launched (pointers always are).
    tensor_cores: Whether the machine code must hold tensor-core instructions.
    registers: `maxnreg` of the launch, if it sets one.
    fp_fusion: `enable_fp_fusion` of the launch: whether products and sums may be fused.
    architectures: Those that this variant is launched on; empty for all.
    """

    kernel: str
    name: str
    signature: Mapping[str, str]
    constants: Mapping[str, Constant] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 2
    divisible: tuple[str, ...] = ()
    tensor_cores: bool = True
    registers: int | None = None
    fp_fusion: bool = True
    architectures: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises KernelInputError for a name that cannot be part of a figure's, or an argument given twice."""
        if not self.name.replace("_", "").isalnum():
            raise KernelInputError(f"name must be letters, digits and underscores, got {self.name!r}")
        if self.kernel.count(":") != 1:
            raise KernelInputError(f"kernel must be module:function, got {self.kernel!r}")
        twice = sorted(set(self.signature) & set(self.constants))
        if twice:
            raise KernelInputError(f"{self.name}: both in signature and constants: {twice}")
