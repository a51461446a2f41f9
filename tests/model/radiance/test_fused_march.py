"""The training's march by the differentiable kernel, in a child process: triton is interpreted or not as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TESTS = Path(__file__).with_name("fused_march_interpreted.py")


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_both_ways_to_march_agree_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", str(TESTS), "-q", "-p", "no:cacheprovider", "--timeout", "280"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "3 passed" in done.stdout
