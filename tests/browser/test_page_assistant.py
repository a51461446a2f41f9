"""The page's assistant and its rooms of two, with a real server and a speech service on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.browser.speech_service import speech_service
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

TOKEN = "correct-horse"
SECONDS = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    arguments = ("--max-sessions", "4", "--offers-per-minute", "6000", "--token", TOKEN)
    with speech_service(SECONDS) as url, ServerProcess("--speech-url", url, *arguments) as process:
        yield process


def open_assistant(browser: Chromium, server: ServerProcess) -> None:
    browser.open("about:blank#")
    browser.open(f"{server.url}#token={TOKEN}")
    browser.wait_for("document.getElementById('voice').options.length > 0")
    page.click(browser, "tab-assistant")
    browser.evaluate("""globalThis.testSent = [], globalThis.testEvents = [], (() => {
      const send = RTCDataChannel.prototype.send;
      RTCDataChannel.prototype.send = function (text) { testSent.push(JSON.parse(text)); send.call(this, text); };
    })()""")


def test_a_text_is_said_with_captions_and_reported(browser: Chromium, server: ServerProcess) -> None:
    open_assistant(browser, server)
    assert browser.evaluate("location.hash") == "", "the token must leave the address"
    page.choose(browser, "say", "Good morning.")
    page.click(browser, "say-it")
    page.until_state(browser, "live")
    assert browser.evaluate("avatarCall.microphone") is None
    browser.wait_for("!document.getElementById('caption').hidden")
    assert page.text(browser, "caption") == "Good morning."
    browser.wait_for("document.getElementById('said').textContent.includes('said, 2.0 s')")  # or still "being said"
    browser.wait_for("document.getElementById('caption').hidden")
    browser.wait_for("testSent.some(m => m.type === 'playback.reported' && m.played_ms >= 1990)")
    reported = browser.evaluate("testSent.filter(m => m.type === 'playback.reported').map(m => m.played_ms)")
    assert reported == sorted(reported)
    assert len(reported) >= 5
    assert browser.evaluate("document.getElementById('avatar').muted") is False
    page.stop(browser)
    assert page.complaints(browser) == []


def test_an_interrupt_cuts_what_is_said_and_what_waits(browser: Chromium, server: ServerProcess) -> None:
    open_assistant(browser, server)
    page.click(browser, "start")
    page.until_state(browser, "live")
    for text in ("First.", "Second."):
        page.choose(browser, "say", text)
        page.click(browser, "say-it")
    browser.wait_for("document.getElementById('said').textContent.includes('being said')")
    page.click(browser, "interrupt")
    browser.wait_for("/First.*cut.*Second.*not said/.test(document.getElementById('said').textContent)")
    assert browser.evaluate("document.getElementById('interrupt').disabled") is True
    assert browser.evaluate("document.getElementById('caption').hidden") is True
    page.stop(browser)


def test_what_was_left_unsaid_is_over_with_its_call(browser: Chromium, server: ServerProcess) -> None:
    """It stayed "being said" for ever, and with it the next call's caption."""
    open_assistant(browser, server)
    for text in ("First.", "Second."):
        page.choose(browser, "say", text)
        page.click(browser, "say-it")
    browser.wait_for("document.getElementById('said').textContent.includes('being said')")
    page.stop(browser)
    browser.wait_for("/First.*cut.*Second.*not said/.test(document.getElementById('said').textContent)")
    page.choose(browser, "say", "Third.")
    page.click(browser, "say-it")
    browser.wait_for("/Third.* said, 2/.test(document.getElementById('said').textContent)")
    browser.wait_for("document.getElementById('caption').hidden")
    page.stop(browser)


def test_two_meet_in_a_room_by_its_link(
    browser: Chromium, server: ServerProcess, chromium_path: str, microphone: Path
) -> None:
    browser.open("about:blank#")
    browser.open(f"{server.url}#token={TOKEN}")
    page.click(browser, "tab-room")
    page.click(browser, "start")
    assert "Make a room first" in page.text(browser, "advice")
    page.click(browser, "make-room")
    browser.wait_for("document.getElementById('invite').value")
    link = browser.evaluate("document.getElementById('invite').value")
    assert link.startswith(server.url)
    assert "room=" in link.partition("#")[2]
    assert "invitation=" in link.partition("#")[2]
    assert "?" not in link
    page.click(browser, "start")
    page.until_state(browser, "live")
    browser.wait_for("document.getElementById('room-state').textContent.includes('you see yourself')")
    with Chromium(chromium_path, microphone) as second:
        second.open(link)
        assert "You are invited" in page.text(second, "state")
        page.click(second, "start")
        page.until_state(second, "live")
        second.wait_for("document.getElementById('avatar').videoWidth > 16")
        browser.wait_for("document.getElementById('room-state').textContent.includes('is here')")
        assert second.evaluate("document.getElementById('avatar').muted") is False
        with Chromium(chromium_path, microphone) as third:
            third.open(link)
            page.click(third, "start")
            page.until_state(third, "error")
            assert "2 people" in page.text(third, "advice")
        page.stop(second)
    browser.wait_for("document.getElementById('room-state').textContent.includes('has left')")
    page.stop(browser)
    assert "You have left" in page.text(browser, "room-state")
    browser.open(server.url)
    browser.evaluate(f"location.href = {link!r}")  # the link in the address of a page that is open
    browser.wait_for("document.getElementById('state')?.textContent.includes('You are invited')")


def test_a_wrong_token_is_explained_and_a_right_one_taken(
    chromium_path: str, microphone: Path, server: ServerProcess
) -> None:
    with Chromium(chromium_path, microphone) as browser:
        browser.open(server.url)
        browser.wait_for("!document.getElementById('token-form').hidden")
        assert "asks for a token" in page.text(browser, "advice")
        for token, words in (("wrong-token", "does not accept"), (TOKEN, "")):
            page.choose(browser, "token", token)
            browser.evaluate("document.getElementById('token-form').requestSubmit()")
            if words:
                browser.wait_for(f"document.getElementById('advice').textContent.includes({words!r})")
        browser.wait_for("document.querySelectorAll('#gallery [role=radio]').length > 0")
        assert browser.evaluate("document.getElementById('token-form').hidden") is True
        stored = browser.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]")
        assert stored == [[TOKEN], []]
        page.click(browser, "start")
        page.until_state(browser, "live")
        page.stop(browser)
