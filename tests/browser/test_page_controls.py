"""Every control of the call view, against a real server with a stand-in for the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_web import __file__ as page_file
from model.motion.mood import MOODS
from tests.browser import page
from tests.browser.chromium import Chromium
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

DARK, BRIGHT = 70, 210
MOST_PAGE_BYTES = 150_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("avatars")
    for name in (f"dark-{DARK}", f"bright-{BRIGHT}", "broken"):
        (folder / name).mkdir()
        (folder / name / "avatar.json").write_text(json.dumps({"name": name, "licence": "CC0"}))
    arguments = ("--avatars", str(folder), "--max-sessions", "4", "--offers-per-minute", "6000")
    with ServerProcess(*arguments) as process:
        yield process


@pytest.fixture
def live(browser: Chromium, server: ServerProcess) -> Iterator[Chromium]:
    page.start(browser, server.url)
    yield browser
    page.stop(browser)
    assert page.complaints(browser) == []


def test_the_first_picture_comes_soon_after_the_click(browser: Chromium, server: ServerProcess) -> None:
    """1.5 s on a machine of its own; other work on this one is allowed for."""
    browser.open(server.url)
    browser.evaluate("""(() => {
      const began = performance.now();
      const shown = () => { globalThis.firstMs = performance.now() - began; };
      document.getElementById('avatar').requestVideoFrameCallback(shown);
      document.getElementById('start').click();
    })()""")
    browser.wait_for("globalThis.firstMs")
    first_ms = browser.evaluate("globalThis.firstMs")
    print(f"\nfirst picture {first_ms:.0f} ms after the click")  # noqa: T201 - the figure is asked for
    page.stop(browser)
    assert first_ms < 3000


def test_the_page_is_small_and_asks_nobody_else(browser: Chromium, server: ServerProcess) -> None:
    folder = Path(page_file).parent
    files = [path for path in folder.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert sum(path.stat().st_size for path in files) < MOST_PAGE_BYTES
    page.start(browser, server.url)
    asked = browser.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(asked) > 10
    assert [name for name in asked if not name.startswith((server.url, "blob:"))] == []
    page.stop(browser)


def test_avatars_are_shown_and_switched(live: Chromium) -> None:
    ids = live.evaluate("[...document.querySelectorAll('#gallery [role=radio]')].map(item => item.dataset.avatar)")
    assert ids == ["bright-210", "broken", "dark-70", "default"]
    live.wait_for("document.querySelector('#gallery [data-avatar=default] img')?.naturalWidth > 100")
    assert "Apache" in page.text(live, "provenance")
    live.evaluate("document.querySelector('[data-avatar=bright-210]').click()")
    live.wait_for("document.querySelector('[data-avatar=bright-210]').getAttribute('aria-checked') === 'true'")
    for _ in range(60):
        if abs(page.video_mean(live) - BRIGHT) < 25:
            break
        live.evaluate(
            "new Promise(resolve => document.getElementById('avatar').requestVideoFrameCallback(resolve)).then(() => 1)"
        )
    assert abs(page.video_mean(live) - BRIGHT) < 25
    live.evaluate("document.querySelector('[data-avatar=broken]').click()")
    live.wait_for("document.getElementById('advice').textContent.includes('damaged')")
    assert page.state(live) == "live"
    live.evaluate("document.querySelector('[data-avatar=default]').click()")
    live.wait_for("document.getElementById('advice').hidden")


def test_mood_and_background_reach_the_server(live: Chromium) -> None:
    assert live.evaluate("[...document.getElementById('mood').options].map(o => o.value)") == list(MOODS)
    page.choose(live, "mood", "smile")
    page.until_control(live, "mood", "smile")
    page.choose(live, "strength", "0.5")
    page.until_control(live, "mood_strength", 0.5)
    page.choose(live, "background", "color")
    page.until_control(live, "background", "#2f6f6a")
    page.choose(live, "color", "#102030")
    page.until_control(live, "background", "#102030")
    page.choose(live, "background", "own")
    page.until_control(live, "background", "own")


def test_head_and_eyes_follow_keys_mouse_and_touch(live: Chromium) -> None:
    live.evaluate("document.getElementById('head').focus()")
    for name in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.key(live, name)
    page.until_control(live, "yaw_deg", 4)
    page.until_control(live, "pitch_deg", -1.2)
    assert live.evaluate("document.getElementById('head').getAttribute('aria-valuetext')") == "4 degrees right, 1 up"
    page.key(live, "Home")
    page.until_control(live, "yaw_deg", 0)
    live.evaluate("document.getElementById('gaze').scrollIntoView()")
    box = live.evaluate(
        "(r => [r.left, r.top, r.width, r.height])(document.getElementById('gaze').getBoundingClientRect())"
    )
    x, y = box[0] + box[2] * 0.75, box[1] + box[3] * 0.5
    page.mouse(live, "mousePressed", x, y)
    page.until_control(live, "gaze_rad", [0.25, 0])
    page.mouse(live, "mouseReleased", x, y)
    finger = [{"x": box[0] + box[2] * 0.25, "y": box[1] + box[3] * 0.5}]
    live.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=finger)
    live.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.until_control(live, "gaze_rad", [-0.25, 0])
    live.evaluate("document.getElementById('gaze').dispatchEvent(new MouseEvent('dblclick'))")
    page.until_control(live, "gaze_rad", None)


def test_mute_push_to_talk_and_another_microphone(live: Chromium) -> None:
    enabled = "avatarCall.microphone.getAudioTracks()[0].enabled"
    live.wait_for("Number(document.getElementById('meter').getAttribute('aria-valuenow')) > 20")
    assert live.evaluate(enabled) is True
    page.click(live, "mute")
    assert live.evaluate(enabled) is False
    live.wait_for("document.getElementById('meter').getAttribute('aria-valuenow') === '0'")
    page.click(live, "mute")
    page.click(live, "push-to-talk")
    assert live.evaluate(enabled) is False
    live.evaluate("document.activeElement.blur()")
    page.key(live, " ", "keyDown")
    assert live.evaluate(enabled) is True
    page.key(live, " ", "keyUp")
    assert live.evaluate(enabled) is False
    page.key(live, " ", "keyDown")
    assert live.evaluate(enabled) is True
    live.evaluate("document.getElementById('mood').focus()")  # let go elsewhere: the microphone stayed open
    page.key(live, " ", "keyUp")
    assert live.evaluate(enabled) is False
    page.click(live, "push-to-talk")
    assert live.evaluate(enabled) is True
    devices = live.evaluate("[...document.getElementById('device').options].map(o => o.value).filter(Boolean)")
    assert len(devices) >= 2
    before = live.evaluate("avatarCall.microphone.id")
    page.choose(live, "device", devices[-1])
    live.wait_for(f"avatarCall.microphone.id !== {json.dumps(before)}")
    live.wait_for("avatarConnection.getSenders()[0].track === avatarCall.microphone.getAudioTracks()[0]")


def test_latency_is_shown_and_saved(live: Chromium, tmp_path: Path) -> None:
    page.click(live, "show-latency")
    live.wait_for("/^[0-9]+ ms$/.test(document.getElementById('latency-p95').textContent)", timeout_s=10)
    assert page.text(live, "latency-algorithmic") == "140 ms"
    for name in ("fps", "drops", "concealed", "kbps", "loss", "route"):
        assert page.text(live, f"latency-{name}") != "–", name
    live.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=False)
    page.click(live, "save-latency")
    saved = tmp_path / "latency.json"
    for _ in range(100):
        if saved.exists():
            break
        live.evaluate("new Promise(resolve => setTimeout(resolve, 50))")
    report = json.loads(saved.read_text())
    sample = report["samples"][-1]
    assert sum(sample["stages_ms"].values()) == pytest.approx(sample["total_ms"], abs=0.5)
    page.click(live, "show-latency")


def test_the_clean_feed_shows_the_same_picture(live: Chromium) -> None:
    page.click(live, "pop-out")
    other = "open('', 'nerf-lipsync-clean')"
    live.wait_for(f"{other}.document.getElementById('feed')?.videoWidth > 16")
    assert live.evaluate(f"{other}.document.body.innerText.trim()") == "synthetic"
    live.evaluate(f"{other}.close()")


def test_the_self_test_finds_a_way(browser: Chromium, server: ServerProcess) -> None:
    browser.open(server.url)
    page.click(browser, "test")
    browser.wait_for("document.querySelectorAll('#report .good').length === 3")
    assert "Calls should work here." in page.text(browser, "report")
    browser.wait_for("fetch('readyz').then(a => a.json()).then(b => b.sessions === 0)")


def test_a_change_of_network_keeps_the_session(live: Chromium) -> None:
    before = live.evaluate("globalThis.oldPeer = avatarCall.peer, avatarCall.session.id")
    live.call("Network.enable")
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    live.call("Network.emulateNetworkConditions", offline=True, **conditions)
    page.until_state(live, "reconnecting")
    live.call("Network.emulateNetworkConditions", offline=False, **conditions)
    page.until_state(live, "live")
    assert live.evaluate("avatarCall.session.id") == before
    assert live.evaluate("avatarCall.peer !== oldPeer") is True
    live.wait_for("document.getElementById('avatar').videoWidth > 16")


def test_a_page_that_was_left_is_idle_when_it_is_shown_again(browser: Chromium, server: ServerProcess) -> None:
    """Chromium kept it as it was: "Live" over a call that had ended."""
    page.start(browser, server.url)
    browser.open(f"{server.url}/clean.html")
    browser.evaluate("history.back()")
    page.until_state(browser, "idle")
    page.click(browser, "start")
    page.until_state(browser, "live")
    page.stop(browser)


def test_the_page_can_be_used_from_the_keyboard(browser: Chromium, server: ServerProcess) -> None:
    browser.open(server.url)
    browser.wait_for("document.querySelector('#gallery [tabindex=\"0\"]')")
    order = []
    for _ in range(14):
        page.key(browser, "Tab")
        order.append(
            browser.evaluate(
                "document.activeElement.id || document.activeElement.dataset.avatar || document.activeElement.tagName"
            )
        )
    expected = (
        "test show-latency theme start mute tab-you device push-to-talk hear default SUMMARY background mood strength"
    )
    assert order == expected.split()
    for name in ("head", "gaze"):
        page.key(browser, "Tab")
        assert browser.evaluate("document.activeElement.id") == name
    assert browser.evaluate("document.querySelector('.badge').textContent") == "synthetic"
    assert browser.evaluate("document.getElementById('avatar').muted") is True
    browser.evaluate("document.getElementById('tab-you').focus()")
    page.key(browser, "ArrowRight")
    assert browser.evaluate("document.activeElement.id") == "tab-assistant"
    assert browser.evaluate("document.getElementById('panel-assistant').hidden") is False
