"""Shared fixtures. Tests that need recorded data or a GPU say so by a fixture or a marker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")  # before NumPy and torch load: idle second threads spin on busy machines


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this run did not ask for, or what this machine cannot run."""
    nightly = pytest.mark.skip(reason="takes minutes: run with --nightly")
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    has_gpu = os.path.exists("/dev/nvidiactl")  # a GPU machine: a GPU that cannot be used is then a failure
    for item in items:
        if ("nightly" in item.keywords or "fault" in item.keywords) and not config.getoption("--nightly"):
            item.add_marker(nightly)
        if "gpu" in item.keywords and not has_gpu:
            item.add_marker(no_gpu)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the program remembers between runs goes to a folder of this run, never to the user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Recorded data (`NERF_LIPSYNC_DATA`); the test is skipped where there is none."""
    value = os.environ.get("NERF_LIPSYNC_DATA")
    if not value:
        pytest.skip("NERF_LIPSYNC_DATA is not set")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"NERF_LIPSYNC_DATA names no folder: {value}")
    return folder
