"""What the browser tests share: Chromium, a WAV file that plays as its microphone, the page without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium
from tests.browser.harness import microphone_wav
from tests.browser.made_up import page_files
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


@pytest.fixture(scope="module")
def browser(chromium_path: str, microphone: Path) -> Iterator[Chromium]:
    with Chromium(chromium_path, microphone) as browser:
        yield browser


@pytest.fixture(scope="module")
def page_url() -> Iterator[str]:
    """Of the page's files, with a made-up server behind them."""
    with page_files() as url:
        yield url
