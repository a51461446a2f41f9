"""Run a test module in a child process in which Triton interprets its kernels.

TRITON_INTERPRET is read when a kernel is decorated, and another test may have imported triton long before. On a machine
with CUDA the child has the variable taken away: the same tests then run compiled.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHILD = "NERF_LIPSYNC_TRITON_CHILD"


def in_child() -> bool:
    """Whether this process was started by `run_module`."""
    return os.environ.get(CHILD) == "1"


def run_module(module: str, *options: str, timeout_s: float = 590) -> str:
    """Run the tests of one file, relative to the repository, in a child; what it printed.

    Raises:
        AssertionError: A test of it failed, or none ran; the message is the child's output.
    """
    import torch

    environment = os.environ | {CHILD: "1", "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    environment.pop("TRITON_INTERPRET", None)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(ROOT / module), *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert " passed" in output, output
    return output
