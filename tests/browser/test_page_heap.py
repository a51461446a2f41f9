"""Five minutes of a call leave the page's memory as it was."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.nightly, pytest.mark.timeout(600)]

SETTLED_S, CALL_S = 20, 320
MOST_GROWTH_BYTES = 10e6
log = logging.getLogger(__name__)


def heap_bytes(browser: Chromium) -> float:
    """JavaScript objects in use after a collection."""
    browser.call("HeapProfiler.collectGarbage")
    return float(browser.call("Runtime.getHeapUsage")["usedSize"])


def shows_until(browser: Chromium, seconds: int) -> None:
    """Wait until the picture has played for so long."""
    browser.wait_for(f"document.getElementById('avatar').currentTime > {seconds}", timeout_s=seconds + 60)


def test_five_minutes_of_a_call_do_not_grow_the_heap(chromium_path: str, microphone: Path) -> None:
    """With the latency view open, which keeps the most."""
    with Chromium(chromium_path, microphone) as browser, ServerProcess() as server:
        page.start(browser, server.url)
        page.click(browser, "show-latency")
        shows_until(browser, SETTLED_S)
        before = heap_bytes(browser)
        shows_until(browser, CALL_S)
        grown = heap_bytes(browser) - before
        log.info("heap after %d s: %.2f MB, %+.2f MB at %d s", SETTLED_S, before / 1e6, grown / 1e6, CALL_S)
        assert browser.evaluate("document.body.dataset.state") == "live"
        assert grown < MOST_GROWTH_BYTES
