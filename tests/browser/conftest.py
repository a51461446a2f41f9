"""What the browser tests share: the browser's path, and a WAV file that plays as the microphone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.harness import microphone_wav
from tests.support.chromium import find_chromium


@pytest.fixture(scope="session")
def chromium_path() -> str:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed")
    return path


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return microphone_wav(tmp_path_factory.mktemp("sound") / "microphone.wav")
