"""Kernel tests run on every instruction set of this machine; a missing library is a failure, not a skip."""

from __future__ import annotations

import os

import pytest

from kernels.native import HOW_TO_BUILD, INSTRUCTION_SETS, cpu_info


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``isa`` every instruction set that runs here ("portable" stands in when the library is missing)."""
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", cpu_info().instruction_sets or INSTRUCTION_SETS[:1])


@pytest.fixture
def native() -> None:
    """Require the native library, or say how to build it."""
    info = cpu_info()
    if info.built:
        return
    if os.environ.get("NERF_LIPSYNC_PURE") == "1":
        pytest.skip("NERF_LIPSYNC_PURE=1: testing the pure-Python package, without the native library")
    pytest.fail(f"{info.problem}. Build it ({HOW_TO_BUILD}) or set NERF_LIPSYNC_PURE=1 to test without it.")
