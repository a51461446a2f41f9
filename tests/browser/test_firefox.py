"""The page in Firefox: a call with picture and sound, text to the assistant, a controls change, and its end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.browser.firefox import Firefox
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.nightly, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--timecode") as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("no Firefox is installed")
    with Firefox(executable) as firefox:
        yield cast(Chromium, firefox)  # the same words


def stats(browser: Chromium, kind: str) -> dict[str, Any]:
    """The receiver's statistics of `audio` or `video`."""
    found: dict[str, Any] = browser.evaluate(f"""(async () => {{
      const report = await avatarCall.peer.connection.getStats();
      return [...report.values()].find(e => e.type === 'inbound-rtp' && e.kind === '{kind}') ?? {{}};
    }})()""")
    return found


def test_a_call(browser: Chromium, server: ServerProcess) -> None:
    page.start(browser, server.url)
    browser.wait_for("document.getElementById('avatar').currentTime > 3")
    before = stats(browser, "video")["framesDecoded"]
    assert before > 50
    assert page.video_mean(browser) > 5
    assert stats(browser, "audio")["packetsReceived"] > 100
    changed = browser.evaluate(
        "fetch(`v1/sessions/${avatarCall.session.id}`, {method: 'PATCH', "
        "body: JSON.stringify({controls: {yaw_deg: 10}}),"
        " headers: {'content-type': 'application/json'}}).then(a => a.status)"
    )
    assert changed == 200
    page.click(browser, "mute")
    browser.wait_for("avatarCall.peer.connection.connectionState === 'connected'")
    page.stop(browser)
    browser.wait_for("fetch('readyz').then(a => a.json()).then(b => b.sessions === 0)")
    assert page.complaints(browser) == []


def test_a_second_call_after_the_first(browser: Chromium, server: ServerProcess) -> None:
    page.start(browser, server.url)
    browser.wait_for("document.getElementById('avatar').currentTime > 1")
    page.stop(browser)
    assert page.state(browser) == "idle"
