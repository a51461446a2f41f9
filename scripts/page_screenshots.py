"""Takes the pictures of the page in docs/page: a call on desktop and phone, dark, and each thing that can go wrong.

`python -m scripts.page_screenshots docs/page` needs Chromium; the calls show the shipped avatar.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.browser import page
from tests.browser.chromium import Chromium
from tests.browser.harness import microphone_wav
from tests.browser.speech_service import speech_service
from tests.stream_server.server_process import FAKE, ServerProcess
from tests.support.chromium import find_chromium

DESKTOP, PHONE = (1280, 800), (390, 844)
QUALITY = 50
DESKTOP_SCALE = 0.7
PART_SCALE = 0.8
STATUS = "body:has(#advice[hidden]) #state, #advice:not([hidden])"
TOKEN = "correct-horse"


class Camera:
    """One browser window that saves JPEGs into a folder."""

    def __init__(self, browser: Chromium, folder: Path) -> None:
        self.browser = browser
        self._folder = folder

    def size(self, pixels: tuple[int, int]) -> None:
        """Give the window another size; a narrow one is a phone."""
        mobile = pixels[0] < 600
        self.browser.call("Emulation.setScrollbarsHidden", hidden=True)
        self.browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels[0],
            height=pixels[1],
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def take(self, name: str) -> None:
        """Save what is in the window as `name`.jpg."""
        width, height = self.browser.evaluate("[innerWidth, innerHeight]")
        self._save(name, 0, 0, width, height, 1.0 if width < 600 else DESKTOP_SCALE)

    def take_part(self, name: str, first: str, last: str) -> None:
        """Save what lies from the element `first` (a CSS selector) to `last`, with a margin."""
        x, y, right, bottom = self.browser.evaluate(
            f"""((a, b) => [Math.min(a.left, b.left), a.top, Math.max(a.right, b.right), b.bottom]
              .map((edge, i) => edge + (i < 2 ? -8 : 8) + [scrollX, scrollY][i % 2]))(
              ...[{first!r}, {last!r}].map(which => document.querySelector(which).getBoundingClientRect()))"""
        )
        self._save(name, max(0, x), y, right - max(0, x), bottom - y, PART_SCALE)

    def _save(self, name: str, x: float, y: float, width: float, height: float, scale: float) -> None:
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": scale}
        shot = self.browser.call(
            "Page.captureScreenshot", format="jpeg", quality=QUALITY, clip=clip, captureBeyondViewport=True
        )
        (self._folder / f"{name}.jpg").write_bytes(base64.b64decode(shot["data"]))


def calls(camera: Camera, url: str) -> None:
    """A call in light, dark and on a phone; latency and self-test; an assistant; a room."""
    browser = camera.browser
    camera.size(DESKTOP)
    page.start(browser, url)
    browser.wait_for("document.querySelector('#gallery img')?.complete")
    wait(browser, 3)
    camera.take("desktop")
    page.click(browser, "show-latency")
    page.click(browser, "test")
    browser.wait_for("document.querySelectorAll('#report .good').length === 3", timeout_s=30)
    camera.take_part("latency", "#latency", "#report")
    page.click(browser, "show-latency")
    browser.evaluate("document.getElementById('report').hidden = true; scrollTo(0, 0)")
    page.choose(browser, "theme", "dark")
    camera.take("dark")
    camera.size(PHONE)
    page.choose(browser, "theme", "")
    wait(browser, 1)
    camera.take("phone")
    camera.take_part("phone-controls", "aside", "aside")
    page.stop(browser)
    camera.size(DESKTOP)
    page.click(browser, "tab-assistant")
    page.click(browser, "say-it")
    browser.wait_for("!document.getElementById('caption').hidden", timeout_s=30)
    wait(browser, 1)
    camera.take("assistant")
    page.stop(browser)
    page.click(browser, "tab-room")
    page.click(browser, "make-room")
    browser.wait_for("document.getElementById('invite').value")
    camera.take_part("room", ".tabs", "#panel-room")


def problems(camera: Camera, second: Chromium) -> None:
    """Server full, network gone, server stopped, server not there."""
    browser = camera.browser
    with ServerProcess("--max-sessions", "1") as server:
        page.start(second, server.url)
        browser.open(server.url)
        page.click(browser, "start")
        page.until_state(browser, "waiting")
        camera.take_part("full", ".call > .bar", STATUS)
        page.stop(second)
        page.until_state(browser, "live", timeout_s=30)
        browser.call("Network.enable")
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        browser.call("Network.emulateNetworkConditions", offline=True, **conditions)
        page.until_state(browser, "reconnecting")
        camera.take_part("offline", ".call > .bar", STATUS)
        browser.call("Network.emulateNetworkConditions", offline=False, **conditions)
        page.until_state(browser, "live")
        server.stop()
        page.until_state(browser, "error", timeout_s=30)
        camera.take_part("stopped", ".call > .bar", STATUS)
        page.click(browser, "start")
        browser.wait_for("document.getElementById('state').textContent.includes('does not answer')")
        camera.take_part("no-answer", ".call > .bar", STATUS)
    with ServerProcess("--token", TOKEN) as server:
        browser.open(server.url)
        browser.wait_for("!document.getElementById('token-form').hidden")
        camera.take_part("token", ".call > .bar", "#token-form")
        page.choose(browser, "token", "wrong-token")
        browser.evaluate("document.getElementById('token-form').requestSubmit()")
        browser.wait_for("document.getElementById('advice').textContent.includes('does not accept')")
        camera.take_part("wrong-token", ".call > .bar", "#token-form")


def no_microphone(camera: Camera) -> None:
    """Permission denied, with the self-test's advice."""
    browser = camera.browser
    with ServerProcess() as server:
        browser.open(server.url)
        page.click(browser, "start")
        page.until_state(browser, "error")
        page.click(browser, "test")
        browser.wait_for("document.querySelectorAll('#report li').length === 3", timeout_s=30)
        camera.take_part("blocked", ".call > .bar", "#report")


def wait(browser: Chromium, seconds: float) -> None:
    """Let the page go on."""
    browser.evaluate(f"new Promise(resolve => setTimeout(resolve, {1000 * seconds})).then(() => null)")


def main(argv: Sequence[str] | None = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stand-in", action="store_true", help="calls show the tests' stand-in: quick")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    executable = find_chromium()
    if executable is None:
        parser.error("no Chromium is installed")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        microphone = microphone_wav(folder / "microphone.wav")
        first = Camera(stack.enter_context(Chromium(executable, microphone)), options.folder)
        second = stack.enter_context(Chromium(executable, microphone))
        first.size(DESKTOP)
        problems(first, second)
        with contextlib.closing(Chromium(executable, microphone, grant=False)) as denied:
            camera = Camera(denied, options.folder)
            camera.size(DESKTOP)
            no_microphone(camera)
        pipeline = FAKE if options.stand_in else None
        url = stack.enter_context(speech_service(seconds=6.0))
        with ServerProcess("--speech-url", url, pipeline=pipeline, timeout_s=180) as server:
            calls(first, server.url)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
