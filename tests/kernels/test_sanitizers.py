"""The native library's sources under sanitizers and emulation: no stray read or write, no undefined behaviour, no data
race, and levels that agree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.nightly
@pytest.mark.parametrize(
    "options",
    [
        ["-DNLS_SANITIZE=address,undefined"],
        ["-DNLS_SANITIZE=thread"],
        ["-DNLS_EMULATE_AVX512=ON"],  # AVX-512 in plain C++: its levels are compared on machines without it, too
    ],
    ids=["address-undefined", "thread", "emulated"],
)
def test_every_level_is_clean(options: list[str], tmp_path: Path) -> None:
    """Builds `tests/kernels/native/check.cpp` with the sources and runs it: a minute or two each."""
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cmake is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a C++ compiler")
    configure = [cmake, "-S", str(ROOT), "-B", str(tmp_path), *options]
    for command in (
        configure,
        [cmake, "--build", str(tmp_path), "--parallel", "2"],
        [str(tmp_path / "nlsmarch_check")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert done.stdout.endswith("ok\n")
