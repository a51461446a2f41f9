"""The page holds the picture until its sound is heard, and lets go of it when the sound needs less."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

AHEAD_MS = "avatarCall.peer.lipSync.aheadMs"
HELD_MS = "avatarCall.peer.lipSync.hold.ms"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--offers-per-minute", "6000") as process:
        yield process


def holds(browser: Chromium, looks: list[tuple[float, float, float] | None]) -> list[int]:
    """What is held after each look: picture before sound, time in the buffer, the buffer's aim (ms)."""
    playing = [
        None if look is None else dict(zip(("aheadMs", "waitedMs", "targetMs"), look, strict=True)) for look in looks
    ]
    script = """(async (looks) => {
      const { Hold } = await import('/src/lipsync.js');
      const hold = new Hold();
      return looks.map((look) => { hold.look(look); return hold.ms; });
    })"""
    return list(browser.evaluate(f"{script}({json.dumps(playing)})"))


@pytest.mark.parametrize(
    ("looks", "held"),
    [
        ([(18, 10, 20)] * 3, [0, 0, 0]),  # as it should be
        ([(25, 10, 20)] * 3, [0, 0, 0]),  # near enough
        ([(62, 10, 20), (60, 10, 20)], [0, 62]),  # two looks that agree: by the lesser
        ([(62, 10, 20), (18, 10, 20), (62, 10, 20), (18, 10, 20)], [0, 0, 0, 0]),  # they do not agree
        ([(62, 10, 20), None, (62, 10, 20), (62, 10, 20)], [0, 0, 0, 64]),  # not known
        ([(4000, 10, 20)] * 3, [0, 0, 0]),  # no estimate yet
        ([(900, 900, 20)] * 3, [0, 1000, 1000]),  # never longer than a second
        ([(62, 10, 20)] * 2 + [(18, 54, 64)] * 2 + [(-2, 54, 64)] * 2, [0, 64, 64, 64, 64, 44]),  # it lets go
        ([(62, 10, 20)] * 2 + [(-90, 54, 64)] * 2, [0, 64, 64, 0]),  # of all of it, and of no more
        ([(-60, 10, 20)] * 3, [0, 0, 0]),  # a picture that is late is not its doing
    ],
)
def test_two_looks_that_agree_move_the_picture(
    browser: Chromium, server: ServerProcess, looks: list[Any], held: list[int]
) -> None:
    browser.open(server.url)
    assert holds(browser, looks) == held


def test_a_picture_waits_for_sound_that_is_late_and_no_longer(browser: Chromium, server: ServerProcess) -> None:
    """Chromium alone brings the picture after its sound by 20 ms a second, and back later still."""
    page.start(browser, server.url)
    audio = "avatarCall.peer.connection.getReceivers().find((one) => one.track.kind === 'audio').jitterBufferTarget"
    browser.wait_for(f"{AHEAD_MS} !== null", timeout_s=20)
    browser.evaluate(f"{audio} = 350")
    browser.wait_for(f"{AHEAD_MS} > 60", timeout_s=20)  # it is heard later, and seen as before
    browser.wait_for(f"{HELD_MS} > 200 && Math.abs({AHEAD_MS}) < 45", timeout_s=20)
    browser.evaluate(f"{audio} = 0")
    browser.wait_for(f"{HELD_MS} < 150 && Math.abs({AHEAD_MS}) < 45", timeout_s=40)
    page.stop(browser)
    assert page.complaints(browser) == []


def test_a_browser_that_cannot_is_left_alone(browser: Chromium, server: ServerProcess) -> None:
    script = "delete RTCRtpReceiver.prototype.jitterBufferTarget"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        page.start(browser, server.url)
        browser.evaluate("new Promise((resolve) => setTimeout(resolve, 1200))")
        assert browser.evaluate(f"[{AHEAD_MS}, {HELD_MS}]") == [None, 0]
        page.stop(browser)
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])
    assert page.complaints(browser) == []
