"""What the page says and does when something is wrong: server full, ended, killed and started again, no microphone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.mark.nightly
def test_a_full_server_keeps_the_place_in_the_queue_and_the_call_begins_by_itself(
    chromium_path: str, microphone: Path
) -> None:
    with (
        ServerProcess("--max-sessions", "1") as server,
        Chromium(chromium_path, microphone) as first,
        Chromium(chromium_path, microphone) as second,
    ):
        page.start(first, server.url)
        second.open(server.url)
        page.click(second, "start")
        page.until_state(second, "waiting")
        assert "You are number 1 in the queue" in page.text(second, "state")
        assert "begins by itself" in page.text(second, "advice")
        page.stop(first)
        page.until_state(second, "live", timeout_s=20)
        second.open(server.url)  # leaves the page: the session ends
        first.wait_for("fetch('readyz').then(a => a.json()).then(b => b.sessions === 0)")
        page.start(first, server.url)
        page.click(second, "test")
        second.wait_for("document.getElementById('report').textContent.includes('all places are taken')")
        page.click(second, "start")
        page.until_state(second, "waiting")
        page.click(second, "stop")
        assert page.state(second) == "idle"
        server.stop()
        page.until_state(first, "error", timeout_s=30)
        assert "the server was stopped" in page.text(first, "state")
        assert "press Start" in page.text(first, "advice")
        page.click(second, "start")
        page.until_state(second, "error")
        assert page.text(second, "state") == "The server does not answer."


@pytest.mark.nightly
def test_a_killed_server_that_comes_again_is_called_again(chromium_path: str, microphone: Path) -> None:
    with Chromium(chromium_path, microphone) as browser:
        with ServerProcess() as server:
            page.start(browser, server.url)
            before = browser.evaluate("avatarCall.session.id")
            for process in (*server.children().values(), server.process.pid):
                os.kill(process, signal.SIGKILL)
        page.until_state(browser, "reconnecting", timeout_s=40)
        port = server.url.rpartition(":")[2]
        with ServerProcess("--port", port):
            page.until_state(browser, "live", timeout_s=70)
            assert browser.evaluate("avatarCall.session.id") != before
            page.stop(browser)


def test_a_blocked_microphone_is_explained(chromium_path: str, microphone: Path) -> None:
    with ServerProcess() as server, Chromium(chromium_path, microphone, grant=False) as browser:
        browser.open(server.url)
        page.click(browser, "start")
        page.until_state(browser, "error")
        assert "blocked" in page.text(browser, "state")
        assert "address bar" in page.text(browser, "advice")
        page.click(browser, "test")
        browser.wait_for("document.querySelectorAll('#report li').length === 3", timeout_s=30)
        assert browser.evaluate("document.querySelectorAll('#report .bad').length") == 1
        assert "microphone is blocked" in page.text(browser, "report")
        browser.evaluate(
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'))"
        )
        page.click(browser, "start")
        browser.wait_for("document.getElementById('state').textContent.includes('No microphone was found')")


@pytest.mark.nightly
def test_media_that_do_not_come_through_are_explained(chromium_path: str, microphone: Path) -> None:
    """Every candidate of the answer leads nowhere, as behind a firewall without UDP."""
    with ServerProcess() as server, Chromium(chromium_path, microphone) as browser:
        browser.open(server.url)
        browser.evaluate("""(() => {
          const take = RTCPeerConnection.prototype.setRemoteDescription;
          RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
            return take.call(this, { type, sdp: sdp.replaceAll('a=ice-pwd:', 'a=ice-pwd:zz') });
          };
        })()""")
        page.click(browser, "start")
        page.until_state(browser, "error", timeout_s=40)
        assert page.text(browser, "advice").count("--turn-url") == 1
        assert page.text(browser, "state") == "No media connection to the server."
