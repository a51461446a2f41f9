"""The page's files without a server of ours: requests, connections and microphones are made up."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.browser.chromium import Chromium

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


@contextmanager
def page_files() -> Iterator[str]:
    """The URL where the page's files are."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(PAGE)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(browser: Chromium, url: str, script: str, page: str = "clean.html") -> Any:
    """What a script returns, on a page with a made-up server and made-up microphones."""
    browser.open(f"{url}/{page}")
    return browser.evaluate(f"(async () => {{ {FAKES} {script} }})()")
