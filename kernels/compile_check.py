"""Compile every Triton kernel for each supported GPU, without one, and refuse what would run badly.

`python -m kernels.compile_check` compiles the cases of all `kernels/*/shapes*.py` (see `compile_case.py`) with Triton's
own compiler and reads the machine code: registers, loads and stores of local memory (spilled registers), shared memory
against the architecture's limit, tensor-core instructions. What it cannot tell is speed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernels.checks import KernelInputError
from kernels.compile_case import CompileCase

SHARED_LIMIT_BYTES = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Architectures that we compile for, with the shared memory that one block may have (CUDA C++ guide, table 30)."""
_TENSOR = re.compile(r"\b(?:[HIQDO]MMA|[HIQ]GMMA|UTC\w*MMA)\b")
_LOCAL = re.compile(r"\b(?:LDL|STL)\b")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


class CompileCheckError(RuntimeError):
    """Kernels cannot be compiled here: no triton, its interpreter is on, or a tool of it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What the machine code of one case needs on one architecture."""

    name: str
    sm: int
    threads: int
    registers: int  # of a thread
    stack_bytes: int
    local_instructions: int  # spills, and arrays that are indexed at run time
    shared_bytes: int  # of a block
    tensor_instructions: int
    wants_tensor_cores: bool

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it may not ship, in words; empty if it may."""
        found = []
        if self.local_instructions or self.stack_bytes:
            found.append(f"spills: {self.local_instructions} local loads and stores, {self.stack_bytes} bytes of stack")
        limit = SHARED_LIMIT_BYTES[self.sm]
        if self.shared_bytes > limit:
            found.append(f"shared memory {self.shared_bytes} bytes, the limit is {limit}")
        if self.wants_tensor_cores and not self.tensor_instructions:
            found.append("no tensor-core instruction")
        return tuple(found)


def find_cases(only: str = "") -> list[CompileCase]:
    """All cases of the package, those whose name contains `only`; sorted by module, then as listed.

    Raises:
        KernelInputError: Two cases have one name.
    """
    cases: list[CompileCase] = []
    root = Path(__file__).parent
    for path in sorted(root.glob("*/shapes*.py")):
        module = importlib.import_module(f"kernels.{path.parent.name}.{path.stem}")
        cases.extend(module.compile_cases())
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise KernelInputError(f"names of compile cases must be unique, got twice: {twice}")
    return [case for case in cases if only in case.name]


def check_architecture(sm: int) -> None:
    """Refuse architectures that the kernels are not made for.

    Raises:
        KernelInputError: Not in `SHARED_LIMIT_BYTES`; names the architecture.
    """
    if sm == 75:
        raise KernelInputError(
            "sm_75 (Turing) is not supported: no bfloat16 or asynchronous copies, 64 kB of shared memory; "
            f"the kernels are compiled for {_supported()}"
        )
    if sm not in SHARED_LIMIT_BYTES:
        raise KernelInputError(f"sm_{sm} is not supported: the kernels are compiled for {_supported()}")


def compile_case(case: CompileCase, sm: int) -> Compiled:
    """Compile one case for one architecture and read its machine code.

    Raises:
        KernelInputError: The architecture is not supported, or the case does not fit its kernel's arguments.
        CompileCheckError: Triton is missing, interprets, or fails.
    """
    check_architecture(sm)
    triton = _triton()
    function = _function(case)
    source = triton.compiler.ASTSource(
        fn=function,
        signature={**case.signature, **dict.fromkeys(case.constants, "constexpr")},
        constexprs={name: _constant(triton, value) for name, value in case.constants.items()},
        attrs=_alignment(case, function.arg_names),
    )
    options: dict[str, Any] = {"num_warps": case.num_warps, "num_stages": case.num_stages}
    options["enable_fp_fusion"] = case.fp_fusion
    if case.registers is not None:
        options["maxnreg"] = case.registers
    target = triton.backends.compiler.GPUTarget("cuda", sm, 32)
    try:
        kernel = triton.compile(source, target=target, options=options)
    except Exception as error:  # triton has no base class of its errors
        raise CompileCheckError(f"{case.name} for sm_{sm}: {type(error).__name__}: {error}") from error
    usage, code = _disassemble(kernel.asm["cubin"])
    registers, stack = parse_usage(usage)
    return Compiled(
        name=case.name,
        sm=sm,
        threads=kernel.metadata.num_warps * 32,
        registers=registers,
        stack_bytes=stack,
        local_instructions=len(_LOCAL.findall(code)),
        shared_bytes=kernel.metadata.shared,
        tensor_instructions=len(_TENSOR.findall(code)),
        wants_tensor_cores=case.tensor_cores,
    )


def parse_usage(text: str) -> tuple[int, int]:
    """Registers and stack bytes from `cuobjdump -res-usage`.

    Raises:
        CompileCheckError: The text has no such line.
    """
    match = _USAGE.search(text)
    if match is None:
        raise CompileCheckError(f"cuobjdump tells no resource usage: {text.strip()[:200]!r}")
    return int(match[1]), int(match[2]) + int(match[4])


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, print a table; 1 if anything may not ship, 2 if nothing could be compiled."""
    parser = argparse.ArgumentParser(prog="python -m kernels.compile_check", description=__doc__)
    parser.add_argument("--sm", type=int, nargs="+", default=list(SHARED_LIMIT_BYTES), help="architectures")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args(argv)
    try:
        for sm in args.sm:
            check_architecture(sm)
        cases = find_cases(args.only)
        if not cases:
            raise KernelInputError(f"no case has {args.only!r} in its name")
        pairs = [(case, sm) for case in cases for sm in args.sm if sm in (case.architectures or SHARED_LIMIT_BYTES)]
        rows = list(_report(compile_case(case, sm) for case, sm in pairs))
    except (CompileCheckError, KernelInputError) as error:
        print(error, file=sys.stderr)  # noqa: T201  (an entry point)
        return 2
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.problems for row in rows) else 0


def _report(rows: Iterable[Compiled]) -> Iterable[Compiled]:
    print(f"{'case':32} {'sm':>4} {'regs':>5} {'local':>5} {'shared':>7} {'tensor':>6}")  # noqa: T201
    for row in rows:
        numbers = f"{row.registers:5} {row.local_instructions:5} {row.shared_bytes:7} {row.tensor_instructions:6}"
        print(f"{row.name:32} {row.sm:4} {numbers} {'; '.join(row.problems)}", flush=True)  # noqa: T201
        yield row


def _triton() -> Any:
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise CompileCheckError("TRITON_INTERPRET=1 is set: kernels are interpreted in this process, not compiled")
    try:
        import triton
        import triton.backends.compiler
        import triton.compiler
    except ImportError as error:
        raise CompileCheckError(f"triton cannot be imported: {error}") from error
    return triton


def _function(case: CompileCase) -> Any:
    module, name = case.kernel.split(":")
    function = getattr(importlib.import_module(module), name)
    given = {*case.signature, *case.constants}
    missing, unknown = set(function.arg_names) - given, given - set(function.arg_names)
    if missing or unknown:
        raise KernelInputError(f"{case.name}: arguments missing {sorted(missing)}, unknown {sorted(unknown)}")
    return function


def _constant(triton: Any, value: object) -> object:
    if isinstance(value, str) and value.startswith("tl."):
        return getattr(triton.language, value.removeprefix("tl."))
    return value


def _alignment(case: CompileCase, names: Sequence[str]) -> dict[tuple[int], list[list[object]]]:
    aligned = {name for name, kind in case.signature.items() if kind.startswith("*")} | set(case.divisible)
    return {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in aligned & set(case.signature)}


def _disassemble(cubin: bytes) -> tuple[str, str]:
    """Resource usage and machine code in text, by the cuobjdump that triton brings."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return _tool("-res-usage", file.name), _tool("-sass", file.name)


def _tool(*arguments: str) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileCheckError(f"cuobjdump failed: {error}") from error
    return done.stdout


def _supported() -> str:
    return ", ".join(f"sm_{sm}" for sm in SHARED_LIMIT_BYTES)


if __name__ == "__main__":
    raise SystemExit(main())
