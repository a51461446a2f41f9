"""What happens when the native library is missing or of another version."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kernels import backend, native


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "library_path", lambda: tmp_path / "libnlsmarch.so")
    monkeypatch.setattr(native, "load_library", native.load_library.__wrapped__)


@pytest.mark.usefixtures("no_library")
def test_missing_library_is_described() -> None:
    info = native.cpu_info.__wrapped__()
    assert not info.built
    assert info.instruction_sets == ()
    assert info.best == "reference"
    assert native.HOW_TO_BUILD in info.problem


@pytest.mark.usefixtures("no_library")
def test_loading_a_missing_library_says_how_to_build() -> None:
    with pytest.raises(native.KernelLibraryError, match="cmake -S"):
        native.load_library()


@pytest.mark.usefixtures("native")
def test_another_abi_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ABI_VERSION", 999)
    with pytest.raises(native.KernelLibraryError, match="need 999; rebuild"):
        native.load_library.__wrapped__()


def test_a_failed_call_is_an_error() -> None:
    native.check_status(0, "call")
    with pytest.raises(native.KernelLibraryError, match="call failed: out of memory"):
        native.check_status(2, "call")


def test_choice_is_logged_once_and_slow_fallback_warns(caplog: pytest.LogCaptureFixture) -> None:
    backend._log_choice.cache_clear()
    with caplog.at_level(logging.INFO, logger=backend.__name__):
        for _ in range(3):
            backend.choose_backend("once", "auto", cpu_library=True)
            backend.choose_backend("slow", "auto", cpu_library=False)
    assert [(r.levelname, r.getMessage().split(" (")[0]) for r in caplog.records] == [
        ("INFO", "kernel once: backend cpu"),
        ("WARNING", "kernel slow: backend reference"),
    ]
