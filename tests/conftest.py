"""Shared fixtures. Tests that need recorded data or a GPU say so by a fixture or a marker."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")  # before NumPy and torch load: idle second threads spin on busy machines


TIMED_BY = {"ServerProcess", "OwnServer", "RealPeer", "UdpRelay", "Chromium", "Firefox"}
"""A test whose module has one of these watches real time: nothing may run beside it (scripts/test.sh)."""
TIMED_FOLDERS = ("stream_server", "browser", "deploy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--timed", choices=("only", "without"), help="only tests of servers and browsers, or all others")


def _keep(config: pytest.Config, items: list[pytest.Item], wanted: str) -> None:
    """Leave the tests that watch real time, or all others."""
    tests = Path(__file__).parent
    kept, others = [], []
    for item in items:
        module = item.getparent(pytest.Module)
        timed = module is not None and not TIMED_BY.isdisjoint(vars(module.obj))
        if timed and item.path.relative_to(tests).parts[0] not in TIMED_FOLDERS:
            raise pytest.UsageError(f"{item.path} watches real time: it belongs to one of {TIMED_FOLDERS}")
        (kept if timed == (wanted == "only") else others).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=others)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this run did not ask for, or what this machine cannot run."""
    if wanted := config.getoption("--timed"):
        _keep(config, items, wanted)
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


@functools.lru_cache(maxsize=3)
def _loaded_once(*folder: Path, **options: Any) -> Any:
    from model.motion_stack import load_motion_stack

    return load_motion_stack(*folder, **options)


@pytest.fixture(scope="module")
def weights_once() -> Iterator[None]:
    """In modules that load the shipped models again and again, as `render` does: networks are read once and shared,
    as sessions share them. For tests that change no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.speech_to_motion.load_motion_stack", _loaded_once)
        yield
