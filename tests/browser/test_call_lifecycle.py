"""The call's own code in the browser without a server: what begins, changes and ends it in an odd order."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

PAGE = Path(__file__).resolve().parents[2] / "client_web"
FAKES = """
globalThis.asked = []; globalThis.rejected = []; globalThis.listening = {};
globalThis.states = []; globalThis.streams = []; globalThis.hold = null;
addEventListener("unhandledrejection", ({ reason }) => rejected.push(String(reason)));
for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
  const real = globalThis[name].bind(globalThis);
  globalThis[name] = (type, listener, ...more) => {
    const held = listening[type] ??= new Set();
    if (step > 0) held.add(listener); else held.delete(listener);
    real(type, listener, ...more);
  };
}
globalThis.fetch = async (path, { method, body } = {}) => {
  asked.push([method, path, body ? JSON.parse(body) : null]);
  if (path === "v1/sessions") await hold;
  const session = { id: "0-a", resume_token: "t", sdp: "v=0" };
  const answers = { "v1/ice-servers": { ice_servers: [] }, "v1/sessions": session };
  return new Response(JSON.stringify(answers[path] ?? {}), { status: 200 });
};
globalThis.RTCPeerConnection = class extends EventTarget {
  connectionState = "new"; iceGatheringState = "complete"; localDescription = { sdp: "v=0" };
  createDataChannel() { return Object.assign(new EventTarget(), { readyState: "connecting" }); }
  addTransceiver() {}
  async createOffer() { return {}; }
  async setLocalDescription() {}
  async setRemoteDescription() { this.connectionState = "connected"; }
  getSenders() { return [{ track: { kind: "audio" }, replaceTrack: async (track) => { globalThis.sent = track; } }]; }
  getReceivers() { return []; }
  async getStats() { return new Map(); }
  close() { this.connectionState = "closed"; }
};
globalThis.sound = new AudioContext();
globalThis.opened = () => { streams.push(sound.createMediaStreamDestination().stream); return streams.at(-1); };
globalThis.live = () => streams.map((stream) => stream.getAudioTracks()[0].readyState === "live");
navigator.mediaDevices.getUserMedia = async () => opened();
globalThis.settled = () => new Promise((resolve) => setTimeout(resolve, 0));
const { Call } = await import("/src/call.js");
globalThis.newCall = (source) => new Call(
  { source, deviceId: "", avatar: "one", controls: { mood: "smile" }, room: null, muted: false },
  { onState: (state) => states.push(state), onMedia: () => {}, onEvent: () => {}, onLevel: () => {} });
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(PAGE)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser(chromium_path: str, microphone: Path) -> Iterator[Chromium]:
    with Chromium(chromium_path, microphone) as browser:
        yield browser


def run(browser: Chromium, url: str, script: str) -> Any:
    """What a script returns, on a page with a made-up server and made-up microphones."""
    browser.open(f"{url}/clean.html")
    return browser.evaluate(f"(async () => {{ {FAKES} {script} }})()")


def test_microphones_chosen_in_quick_succession_are_let_go_but_for_the_last(browser: Chromium, url: str) -> None:
    """The one in between stayed open, beyond the call's end."""
    found = run(
        browser,
        url,
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


def test_the_microphone_that_was_chosen_last_is_heard_even_if_it_opens_first(browser: Chromium, url: str) -> None:
    found = run(
        browser,
        url,
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


def test_a_call_that_ended_is_ended_once(browser: Chromium, url: str) -> None:
    """Start after a failure, and leaving the page, end it again: its session was deleted twice."""
    found = run(
        browser,
        url,
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
    browser: Chromium, url: str, asked_for: str
) -> None:
    found = run(
        browser,
        url,
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


def test_what_is_chosen_while_a_call_connects_holds_when_it_is_live(browser: Chromium, url: str) -> None:
    """It stood in the page, and the server never heard of it."""
    found = run(
        browser,
        url,
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


NO_METER = """
const contexts = [];
globalThis.AudioContext = class extends AudioContext {
  constructor() { super(); contexts.push(this); }
  createMediaStreamSource() { throw new DOMException("another sample rate", "NotSupportedError"); }
};
const states_of = () => Promise.all(contexts.map(async (one) => { await settled(); return one.state; }));
"""


def test_a_call_needs_no_level_meter(browser: Chromium, url: str) -> None:
    """Where the microphone has another sample rate than the loudspeakers, some browsers refuse to measure it."""
    found = run(
        browser,
        url,
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


def test_the_self_test_lets_a_microphone_go_that_it_cannot_measure(browser: Chromium, url: str) -> None:
    found = run(
        browser,
        url,
        NO_METER
        + """
        document.body.innerHTML = '<section id="report"></section>';
        const { selfTest } = await import("/src/selftest.js");
        const [, microphone] = await selfTest("", new RTCPeerConnection());
        return { good: microphone.good, live: live(), contexts: await states_of() };
        """,
    )
    assert found == {"good": False, "live": [False], "contexts": ["closed"]}


ASSISTANT = """
document.body.innerHTML = '<p id="caption" hidden></p><button id="interrupt" disabled></button><form id="say-form">'
  + '<textarea id="say"></textarea><select id="voice"></select></form><ol id="said"></ol>';
const { Assistant } = await import("/src/assistant.js");
const problems = [];
const refuse = () => { globalThis.fetch = async () => new Response('{"code": "no-voice"}', { status: 422 }); };
const assistant = new Assistant({ session: async () => "0-a", current: () => "0-a", send: () => {}, soundMs: () => 0,
  onProblem: (error) => problems.push(error.code) });
const notes = () => [...document.querySelectorAll("#said small")].map((note) => note.textContent.slice(3));
const id = (index) => [...assistant.utterances.keys()][index];
const event = (type, index, played_ms = 0) => assistant.onEvent({ type, utterance: id(index), played_ms });
const shown = () => [!assistant.caption.hidden, !assistant.interruptButton.disabled];
"""


def test_a_text_that_was_refused_does_not_wait(browser: Chromium, url: str) -> None:
    """It did for ever, and after whatever else was said caption and Interrupt stayed."""
    found = run(
        browser,
        url,
        ASSISTANT
        + """
        const real = fetch;
        refuse();
        await assistant.say("one", null);
        globalThis.fetch = real;
        await assistant.say("two", null);
        event("playback.started", 1);
        const during = shown();
        event("playback.finished", 1, 2000);
        return { problems, notes: notes(), during, after: shown() };
        """,
    )
    assert found["problems"] == ["no-voice"]
    assert found["notes"] == ["not said", "said, 2.0 s"]
    assert (found["during"], found["after"]) == ([True, True], [False, False])


def test_what_a_call_left_unsaid_does_not_wait_in_the_next_one(browser: Chromium, url: str) -> None:
    found = run(
        browser,
        url,
        ASSISTANT
        + """
        await assistant.say("one", null);
        await assistant.say("two", null);
        event("playback.started", 0);
        event("playback.spoken", 0, 1000);
        assistant.end();
        const ended = notes();
        await assistant.say("three", null);
        event("playback.started", 2);
        event("playback.finished", 2, 2000);
        return { ended, notes: notes(), after: shown() };
        """,
    )
    assert found["ended"] == ["cut, 1.0 s", "not said"]
    assert found["notes"] == ["cut, 1.0 s", "not said", "said, 2.0 s"]
    assert found["after"] == [False, False]


ELEMENT = """
globalThis.sockets = [];
globalThis.WebSocket = class extends EventTarget {
  static OPEN = 1;
  readyState = 1;
  constructor() { super(); this.sent = []; sockets.push(this); setTimeout(() => this.tell("open"), 0); }
  send(data) {
    const message = typeof data === "string" ? JSON.parse(data) : { type: "sound" };
    this.sent.push(message);
    if (message.type === "start") setTimeout(() => this.hear({ type: "ready" }), 0);
  }
  hear(event) { this.tell("message", { data: JSON.stringify(event) }); }
  tell(name, more = {}) { this.dispatchEvent(Object.assign(new Event(name), more)); }
  close() { this.readyState = 3; }
};
await import("/embed.js");
const made = document.createElement("nerf-lipsync-avatar");
document.body.append(made);
const told = (promise) => promise.then(() => "done", (error) => error.message);
const asks = async (type) => {
  while (!sockets.at(-1)?.sent.some((message) => message.type === type)) await settled();
  return sockets.at(-1).sent.find((message) => message.type === type).utterance;
};
"""


def test_the_element_says_that_a_text_is_refused(browser: Chromium, url: str) -> None:
    """It waited for a text that was never going to be said."""
    found = run(
        browser,
        url,
        ELEMENT
        + """
        const text = told(made.speak("hello"));
        const utterance = await asks("say");
        sockets[0].hear({ type: "notice", code: "refused", message: "no voice is installed", utterance });
        const sound = told(made.speak((async function* () {
          for (;;) { await settled(); yield new Int16Array(10); }
        })()));
        sockets[0].hear({ type: "speech.room", room_ms: 30000 });
        const begun = await asks("utterance.begin");
        await asks("sound");
        sockets[0].hear({ type: "notice", code: "refused", message: "64 wait", utterance: begun });
        const result = [await text, await sound, made.waiting.size];
        made.remove();
        await settled();
        return { result, rejected };
        """,
    )
    assert found == {"result": ["no voice is installed", "64 wait", 0], "rejected": []}


def test_the_element_connects_once_its_attributes_are_right(browser: Chromium, url: str) -> None:
    found = run(
        browser,
        url,
        ELEMENT
        + """
        made.setAttribute("rate", "22050");
        const wrong = await told(made.connect());
        made.setAttribute("rate", "24000");
        const right = await told(made.connect());
        made.remove();
        return [wrong, right];
        """,
    )
    assert found == ["rate must be one of 16000,24000,48000, got 22050", "done"]
