"""A call that is recorded says so where nobody overlooks it; one that is not does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def shown(browser: Chromium) -> bool:
    """The notice takes room on the page."""
    return bool(browser.evaluate("document.getElementById('recording').getBoundingClientRect().width > 20"))


def test_a_recorded_call_says_so(chromium_path: str, microphone: Path, tmp_path: Path) -> None:
    with Chromium(chromium_path, microphone) as browser:
        with ServerProcess("--record", str(tmp_path)) as server:
            page.start(browser, server.url)
            browser.wait_for("!document.getElementById('recording').hidden")
            assert shown(browser)
            assert "recorded" in page.text(browser, "recorded")
            page.stop(browser)
            assert not shown(browser)
        with ServerProcess() as server:
            page.start(browser, server.url)
            browser.wait_for("avatarCall.session.id")
            browser.wait_for("document.getElementById('avatar').currentTime > 1")  # the ready event has come by then
            assert not shown(browser)
            assert "not stored" in page.text(browser, "recorded")
