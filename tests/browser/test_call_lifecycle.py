"""The call's own code in the browser without a server: what begins, changes and ends it in an odd order."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Chromium
from tests.browser.made_up import run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_microphones_chosen_in_quick_succession_are_let_go_but_for_the_last(browser: Chromium, page_url: str) -> None:
    """The one in between stayed open, beyond the call's end."""
    found = run(
        browser,
        page_url,
        """
        const call = newCall("microphone");
        await call.run();
        await Promise.all([call.changeMicrophone("a"), call.changeMicrophone("b")]);
        const during = live();
        const sends = sent === streams[2].getAudioTracks()[0];
        call.end();
        return { during, sends, after: live(), states };
        """,
    )
    assert found["states"][-1] == "live"
    assert found["during"] == [False, False, True]
    assert found["sends"]
    assert found["after"] == [False, False, False]


def test_the_microphone_that_was_chosen_last_is_heard_even_if_it_opens_first(browser: Chromium, page_url: str) -> None:
    found = run(
        browser,
        page_url,
        """
        const call = newCall("microphone");
        await call.run();
        let go;
        const slow = new Promise((resolve) => { go = resolve; });
        navigator.mediaDevices.getUserMedia = async ({ audio }) => {
          if (audio.deviceId?.exact === "a") await slow;
          return Object.assign(opened(), { chosen: audio.deviceId?.exact });
        };
        const both = [call.changeMicrophone("a"), call.changeMicrophone("b")];
        await settled();
        go();
        await Promise.all(both);
        const heard = call.microphone.chosen;
        const open = live().filter(Boolean).length;
        call.end();
        return { heard, open };
        """,
    )
    assert found == {"heard": "b", "open": 1}


def test_a_call_that_ended_is_ended_once(browser: Chromium, page_url: str) -> None:
    """Start after a failure, and leaving the page, end it again: its session was deleted twice."""
    found = run(
        browser,
        page_url,
        """
        const call = newCall("microphone");
        await call.run();
        call.end();
        call.end();
        await settled();
        return { deleted: asked.filter(([method]) => method === "DELETE").length, rejected };
        """,
    )
    assert found == {"deleted": 1, "rejected": []}


@pytest.mark.parametrize("asked_for", ["v1/ice-servers", "v1/sessions"])
def test_a_call_that_is_ended_while_it_connects_listens_for_nothing_more(
    browser: Chromium, page_url: str, asked_for: str
) -> None:
    found = run(
        browser,
        page_url,
        f"const until = {asked_for!r};"
        """
        let go;
        hold = new Promise((resolve) => { go = resolve; });
        const call = newCall("speech");
        const running = call.run();
        while (!asked.some(([, path]) => path === until)) await settled();
        call.end();
        go();
        await running;
        await settled();
        const left = ["online", "offline"].map((name) => listening[name]?.size ?? 0);
        const count = (name) => asked.filter(([method]) => method === name).length;
        return { left, kept: count("POST") - count("DELETE"), states };
        """,
    )
    assert found == {"left": [0, 0], "kept": 0, "states": ["connecting"]}


def test_what_is_chosen_while_a_call_connects_holds_when_it_is_live(browser: Chromium, page_url: str) -> None:
    """It stood in the page, and the server never heard of it."""
    found = run(
        browser,
        page_url,
        """
        let go;
        hold = new Promise((resolve) => { go = resolve; });
        const call = newCall("speech");
        const running = call.run();
        while (!asked.some(([, path]) => path === "v1/sessions")) await settled();
        await call.change({ avatar: "two" });
        await call.change({ controls: { background: "#102030" } });
        call.steer({ yaw_deg: 5 });
        go();
        await running;
        await settled();
        const quiet = newCall("speech");
        const before = asked.length;
        await quiet.run();
        call.end();
        quiet.end();
        return { patches: asked.filter(([method]) => method === "PATCH"), states };
        """,
    )
    assert found["patches"] == [
        [
            "PATCH",
            "v1/sessions/0-a",
            {"avatar": "two", "controls": {"mood": "smile", "background": "#102030", "yaw_deg": 5}},
        ]
    ]


def test_a_page_that_the_browser_brings_back_shows_no_call(browser: Chromium, page_url: str) -> None:
    """It had been ended when the page was left, and was shown as live."""
    found = run(
        browser,
        page_url,
        """
        const shown = () => document.body.dataset.state;
        document.getElementById("start").click();
        while (shown() !== "live") await settled();
        dispatchEvent(new Event("pagehide"));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
        const back = shown();
        document.getElementById("start").click();
        while (shown() !== "live") await settled();
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
        const going = shown();
        document.getElementById("stop").click();
        return { back, going, posts: asked.filter(([method]) => method === "POST").length };
        """,
        page="index.html",
    )
    assert found == {"back": "idle", "going": "live", "posts": 2}


NO_METER = """
const contexts = [];
globalThis.AudioContext = class extends AudioContext {
  constructor() { super(); contexts.push(this); }
  createMediaStreamSource() { throw new DOMException("another sample rate", "NotSupportedError"); }
};
const states_of = () => Promise.all(contexts.map(async (one) => { await settled(); return one.state; }));
"""


def test_a_call_needs_no_level_meter(browser: Chromium, page_url: str) -> None:
    """Where the microphone has another sample rate than the loudspeakers, some browsers refuse to measure it."""
    found = run(
        browser,
        page_url,
        NO_METER
        + """
        const call = newCall("microphone");
        await call.run();
        const during = states.at(-1);
        call.end();
        while ((await states_of()).includes("running")) await settled();
        return { during, live: live(), contexts: await states_of() };
        """,
    )
    assert found == {"during": "live", "live": [False], "contexts": ["closed"]}


def test_the_self_test_lets_a_microphone_go_that_it_cannot_measure(browser: Chromium, page_url: str) -> None:
    found = run(
        browser,
        page_url,
        NO_METER
        + """
        document.body.innerHTML = '<section id="report"></section>';
        const { selfTest } = await import("/src/selftest.js");
        const [, microphone] = await selfTest("", new RTCPeerConnection());
        return { good: microphone.good, live: live(), contexts: await states_of() };
        """,
    )
    assert found == {"good": False, "live": [False], "contexts": ["closed"]}
