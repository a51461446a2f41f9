"""Registers, spills, shared memory and tensor-core instructions of every Triton kernel, on GPUs that are not here.

    python benchmarks/bench_compile.py [--only TEXT] [--json benchmarks/results/kernels_compile.json]

One table for each kernel variant, `python -m kernels.compile_check` compiles them. Exit code 1 when one may not ship.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from kernels.compile_check import SHARED_LIMIT_BYTES, Compiled, compile_case, find_cases
from model.results import Figure, new_results, write_results


def main(argv: Sequence[str] | None = None) -> int:
    """Compile everything for everything; write a results file when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="processes that compile")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    rows = []
    wanted = [(case, case.architectures or SHARED_LIMIT_BYTES) for case in find_cases(args.only)]
    todo = [(case, sm) for case, architectures in wanted for sm in architectures]
    with ProcessPoolExecutor(args.jobs) as pool:
        for row in pool.map(compile_case, *zip(*todo, strict=True)):
            rows.append(row)
            print(row.name, f"sm_{row.sm}", row.registers, "; ".join(row.problems) or "ok", flush=True)
    if args.json is not None:
        figures = {name: figure for row in rows for name, figure in figures_of(row).items()}
        command = "python benchmarks/bench_compile.py" + (f" --only {args.only}" if args.only else "")
        data = "shipped block sizes, kernels/*/shapes*.py; compiled, not run"
        write_results(args.json, new_results(figures, command=command, data=data))
    return 1 if any(row.problems for row in rows) else 0


def figures_of(row: Compiled) -> dict[str, Figure]:
    """Figures `<case>.sm<NN>.<metric>`: a table for each case in docs/benchmarks.md."""
    limit = SHARED_LIMIT_BYTES[row.sm] / 1024
    figures = {
        "registers": Figure(value=row.registers, unit="registers", better="lower", goal=255),
        "spills": Figure(value=row.local_instructions, unit="instructions", better="lower", goal=0),
        "shared": Figure(value=row.shared_bytes / 1024, unit="KiB", better="lower", goal=limit),
    }
    if row.wants_tensor_cores:
        figures["tensor_core"] = Figure(value=row.tensor_instructions, unit="instructions", better="higher", goal=1)
    return {f"{row.name}.sm{row.sm}.{name}": figure for name, figure in figures.items()}


if __name__ == "__main__":
    raise SystemExit(main())
