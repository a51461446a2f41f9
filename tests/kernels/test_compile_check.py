"""The offline compile check: what it refuses, and that kernels compile for cards that are not here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernels.checks import KernelInputError
from kernels.compile_case import CompileCase
from kernels.compile_check import (
    SHARED_LIMIT_BYTES,
    CompileCheckError,
    Compiled,
    check_architecture,
    compile_case,
    find_cases,
    main,
    parse_usage,
)

ROOT = Path(__file__).resolve().parents[2]
GOOD = Compiled(
    name="good",
    sm=86,
    threads=128,
    registers=100,
    stack_bytes=0,
    local_instructions=0,
    shared_bytes=99 * 1024,
    tensor_instructions=4,
    wants_tensor_cores=True,
)
SMALL = "attention_t16_fp16"


def run_check(
    tmp_path: Path, *options: str, timeout_s: float
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """The command in a process of its own: this one's triton may be interpreting."""
    rows = tmp_path / "rows.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kernels.compile_check", *options, "--json", str(rows)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)
    return done, json.loads(rows.read_text()) if rows.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kernel_compiles_for_two_generations(tmp_path: Path) -> None:
    done, rows = run_check(tmp_path, "--only", SMALL, "--sm", "80", "90", timeout_s=290)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["sm"] for row in rows] == [80, 90]
    for row in rows:
        assert row["tensor_instructions"] > 0 and row["local_instructions"] == 0
        assert 16 < row["registers"] <= 255 and 0 < row["shared_bytes"] <= SHARED_LIMIT_BYTES[row["sm"]]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_every_kernel_compiles_for_every_generation(tmp_path: Path) -> None:
    done, rows = run_check(tmp_path, timeout_s=3590)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [row for row in rows if row["local_instructions"] or row["stack_bytes"]]
    assert not re.search("spills:|the limit is|no tensor-core", done.stdout), done.stdout
    assert len(rows) == sum(len(case.architectures or SHARED_LIMIT_BYTES) for case in find_cases())


def test_the_table_has_every_case_and_none_spills() -> None:
    """benchmarks/results/kernels_compile.json: shipped block sizes on all architectures, as last compiled."""
    figures = json.loads((ROOT / "benchmarks/results/kernels_compile.json").read_text())["figures"]
    spills = {name.removesuffix(".spills"): f["value"] for name, f in figures.items() if name.endswith(".spills")}
    assert set(spills) == {
        f"{case.name}.sm{sm}" for case in find_cases() for sm in case.architectures or SHARED_LIMIT_BYTES
    }
    assert not {name: value for name, value in spills.items() if value}


def test_what_may_not_ship_is_said() -> None:
    assert GOOD.problems == ()
    assert "spills: 3 local loads and stores" in replace(GOOD, local_instructions=3).problems[0]
    assert "8 bytes of stack" in replace(GOOD, stack_bytes=8).problems[0]
    assert replace(GOOD, shared_bytes=99 * 1024 + 1).problems == ("shared memory 101377 bytes, the limit is 101376",)
    assert replace(GOOD, shared_bytes=160 * 1024, sm=80).problems == ()
    assert replace(GOOD, tensor_instructions=0).problems == ("no tensor-core instruction",)
    assert replace(GOOD, tensor_instructions=0, wants_tensor_cores=False).problems == ()


def test_turing_and_unknown_cards_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sm", "75"]) == 2
    assert "sm_75 (Turing) is not supported" in capsys.readouterr().err
    with pytest.raises(KernelInputError, match="sm_70 is not supported: the kernels are compiled for sm_80, sm_86"):
        check_architecture(70)
    assert main(["--only", "no such kernel"]) == 2
    assert "no such kernel" in capsys.readouterr().err


def test_an_interpreting_process_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(CompileCheckError, match="TRITON_INTERPRET=1 is set"):
        compile_case(find_cases(SMALL)[0], 80)


def test_usage_is_read() -> None:
    text = "Fatbin elf code:\n Function k:\n  REG:168 STACK:32 SHARED:0 LOCAL:8 CONSTANT[0]:560 TEXTURE:0"
    assert parse_usage(text) == (168, 40)
    with pytest.raises(CompileCheckError, match="nothing here"):
        parse_usage("nothing here")


def test_cases_are_checked_and_named_once() -> None:
    names = [case.name for case in find_cases()]
    assert len(set(names)) == len(names) and SMALL in names
    assert [case.name for case in find_cases(SMALL)] == [SMALL]
    with pytest.raises(KernelInputError, match=r"'a\.b'"):
        CompileCase(kernel="m:f", name="a.b", signature={})
    with pytest.raises(KernelInputError, match="module:function, got 'm'"):
        CompileCase(kernel="m", name="a", signature={})
    with pytest.raises(KernelInputError, match=r"\['x'\]"):
        CompileCase(kernel="m:f", name="a", signature={"x": "i32"}, constants={"x": 1})
