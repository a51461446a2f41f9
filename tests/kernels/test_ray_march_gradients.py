"""Gradients of the Triton ray marcher against torch's, in a child process: triton is interpreted or not as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).with_name("ray_march_gradients_interpreted.py")


def run_interpreted(*options: str) -> str:
    """The child's report; it fails here if one of its tests fails or is skipped."""
    command = [sys.executable, "-m", "pytest", str(TESTS), "-q", "-p", "no:cacheprovider", *options]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)  # seconds of one core; minutes where many share it
def test_gradients_in_the_interpreter() -> None:
    assert "3 passed" in run_interpreted("-m", "not nightly", "--timeout", "300")


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_all_gradients_in_the_interpreter() -> None:
    assert "12 passed" in run_interpreted("--nightly", "--timeout", "300")
