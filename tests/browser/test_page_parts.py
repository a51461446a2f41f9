"""The page's assistant and the element for other pages, without a server: what is refused, cut or wrong."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Chromium
from tests.browser.made_up import run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


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


def test_a_text_that_was_refused_does_not_wait(browser: Chromium, page_url: str) -> None:
    """It did for ever, and after whatever else was said caption and Interrupt stayed."""
    found = run(
        browser,
        page_url,
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


def test_what_a_call_left_unsaid_does_not_wait_in_the_next_one(browser: Chromium, page_url: str) -> None:
    found = run(
        browser,
        page_url,
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


def test_the_element_says_that_a_text_is_refused(browser: Chromium, page_url: str) -> None:
    """It waited for a text that was never going to be said."""
    found = run(
        browser,
        page_url,
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


def test_the_element_connects_once_its_attributes_are_right(browser: Chromium, page_url: str) -> None:
    found = run(
        browser,
        page_url,
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
