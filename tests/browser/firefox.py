"""Drives the system's headless Firefox over WebDriver BiDi; no more than a test needs. Its microphone is a tone."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from stream_server.bench.chromium import Browser

PREFERENCES = {
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.aboutwelcome.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
}


class Firefox(Browser):
    """One browser with one page."""

    def __init__(self, executable: str) -> None:
        profile = tempfile.TemporaryDirectory(prefix="firefox-test-", ignore_cleanup_errors=True)
        folder = Path(profile.name)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (folder / "user.js").write_text("\n".join(lines))
        command = [executable, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0"]
        super().__init__([*command, "about:blank"], profile)
        try:
            self._socket = self._connect()
            self.call("session.new", capabilities={})
            self.call("session.subscribe", events=["log.entryAdded"])
            self._context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.close()
            raise

    def open(self, url: str) -> None:
        """Go to a page and wait for it to load."""
        self.call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str, *, timeout_s: float = 30.0) -> Any:
        """The value of a JavaScript expression that JSON can hold, promises awaited."""
        script = f"(async () => JSON.stringify(await ({expression})) ?? 'null')()"
        arguments = {"expression": script, "target": {"context": self._context}, "userActivation": True}
        answer = self.call("script.evaluate", timeout_s=timeout_s, awaitPromise=True, **arguments)
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def call(self, method: str, *, timeout_s: float = 30.0, **parameters: Any) -> dict[str, Any]:
        """One BiDi command."""
        self._next_id += 1
        self._socket.send(json.dumps({"id": self._next_id, "method": method, "params": parameters}))
        deadline = time.monotonic() + timeout_s
        while True:
            answer = json.loads(self._socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if answer.get("id") == self._next_id:
                if answer["type"] == "error":
                    raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            if answer.get("method") == "log.entryAdded" and answer["params"]["level"] == "error":
                self.console.append(str(answer["params"]["text"])[:300])

    def _connect(self) -> ClientConnection:
        port_file = Path(self._profile.name, "WebDriverBiDiServer.json")
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("Firefox did not start")
            time.sleep(0.05)
        place = json.loads(port_file.read_text())
        url = f"ws://{place['ws_host']}:{place['ws_port']}/session"
        return self._stack.enter_context(connect(url, max_size=None, compression=None, proxy=None))
