"""`<nerf-lipsync-avatar>`: in the example that the server shows, and in a page of another site with a ticket."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from client_web import __file__ as page_file
from tests.browser import page
from tests.browser.chromium import Chromium
from tests.browser.speech_service import speech_service
from tests.stream_server.server_process import ServerProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

TOKEN = "correct-horse"
ELEMENT = "document.querySelector('nerf-lipsync-avatar')"
HUM = """(async function* () {
  for (let part = 0; part < 10; part++) {
    yield Int16Array.from({ length: 2400 }, (_, i) => 8000 * Math.sin((2 * Math.PI * 200 * (2400 * part + i)) / 24000));
  }
})()"""
TORN = """(async function* () {  // as networks hand it over
  const whole = new Uint8Array(Int16Array.from({ length: 24000 }, (_, i) => 9000 * Math.sin(i / 20)).buffer);
  for (let at = 0; at < whole.length; at += 4801) yield whole.subarray(at, at + 4801);
})()"""
BRIGHTNESS = f"""(canvas => {{
  const {{ width }} = canvas;
  const row = canvas.getContext('2d').getImageData(width * 0.45, width * 0.7, width * 0.1, width * 0.1).data;
  return row.reduce((sum, value) => sum + value, 0) / row.length;
}})({ELEMENT}.shadowRoot.querySelector('canvas'))"""


@pytest.mark.nightly
def test_the_example_answers(browser: Chromium) -> None:
    with speech_service(seconds=1.0) as url, ServerProcess("--speech-url", url) as server:
        browser.open(f"{server.url}/example-assistant.html")
        browser.evaluate("document.querySelector('form').requestSubmit()")
        browser.wait_for("document.querySelector('p').textContent.startsWith('said in')")
        said = int(browser.evaluate("document.querySelector('p').textContent.split(' ')[2]"))
        assert abs(said - 1000) <= 5
        assert browser.evaluate(f"{ELEMENT}.shadowRoot.querySelector('span').textContent") == "synthetic"
        assert page.complaints(browser) == []


@pytest.fixture(scope="module")
def guest_url() -> Iterator[str]:
    """Another site, `localhost`, that has a copy of embed.js."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = partial(Quiet, directory=str(Path(page_file).parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{site.server_address[1]}/clean.html"
        site.shutdown()
        thread.join()


def insert(browser: Chromium, server: ServerProcess) -> None:
    """Put an element with a new ticket into the open page and collect its events."""
    request = urllib.request.Request(server.url + "/v1/tickets", method="POST")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        ticket = json.load(answer)["ticket"]
    browser.evaluate(f"""import('/embed.js').then(() => {{
      document.querySelector('nerf-lipsync-avatar')?.remove();
      const made = document.createElement('nerf-lipsync-avatar');
      globalThis.heard = [];
      for (const name of ['ready', 'started', 'finished', 'interrupted', 'notice', 'error', 'closed']) {{
        made.addEventListener(name, ({{ detail }}) => heard.push([name, detail]));
      }}
      made.setAttribute('server', {json.dumps(server.url)});
      made.setAttribute('ticket', {json.dumps(ticket)});
      document.body.append(made);
    }})""")


def test_another_site_speaks_with_a_ticket(browser: Chromium, guest_url: str) -> None:
    with ServerProcess("--token", TOKEN, "--allowed-host", "localhost") as server:
        browser.open(guest_url)
        insert(browser, server)
        browser.wait_for("heard.some(([name]) => name === 'ready')")
        browser.wait_for(f"{ELEMENT}.shadowRoot.querySelector('canvas').width === 256")
        quiet = browser.evaluate(BRIGHTNESS)
        browser.evaluate(f"globalThis.spoken = {ELEMENT}.speak({HUM}), null")
        browser.wait_for(f"{BRIGHTNESS} < {quiet - 15}")
        spoken = browser.evaluate("spoken")
        assert spoken["interrupted"] is False
        assert abs(spoken["played_ms"] - 1000) <= 5
        browser.evaluate(f"globalThis.spoken = {ELEMENT}.speak({HUM}), null")
        browser.wait_for("heard.filter(([name]) => name === 'started').length === 2")
        browser.evaluate(f"{ELEMENT}.interrupt()")
        cut = browser.evaluate("spoken")
        assert cut["interrupted"] is True
        assert cut["played_ms"] < 1000
        assert abs(browser.evaluate(f"{ELEMENT}.speak({TORN})")["played_ms"] - 1000) <= 5
        browser.evaluate(f"globalThis.spoken = {ELEMENT}.speak([new ArrayBuffer(1_200_000)]), null")  # above a message
        browser.wait_for("heard.filter(([name]) => name === 'started').length === 4")
        browser.evaluate(f"{ELEMENT}.interrupt()")
        assert browser.evaluate("spoken")["interrupted"] is True
        with pytest.raises(RuntimeError, match="no voice 'nobody'"):
            browser.evaluate(f"{ELEMENT}.speak('Hello.', {{ voice: 'nobody' }})")
        browser.evaluate(f"{ELEMENT}.setPose({{ yaw_deg: 10, mood: 'smile' }})")
        browser.evaluate(f"{ELEMENT}.setPose({{ mood: 'hungry' }})")
        browser.wait_for("heard.some(([name, event]) => name === 'notice' && event.message.includes('hungry'))")
        browser.evaluate(f"{ELEMENT}.disconnect()")
        assert browser.evaluate("heard.at(-1)[0]") == "closed"
        with pytest.raises(RuntimeError, match="ticket used up"):
            browser.evaluate(f"{ELEMENT}.connect()")
        insert(browser, server)
        browser.wait_for("heard.some(([name]) => name === 'ready')")
        browser.open(guest_url + "?next")  # Chromium keeps the page that was left, and kept its socket
        left_s = time.monotonic()
        while server.get("/readyz")["sessions"]:
            assert time.monotonic() < left_s + 10, "who has left the page still holds a place"
