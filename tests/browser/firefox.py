"""Drives the system's headless Firefox over WebDriver BiDi; no more than a test needs. Its microphone is a tone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

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


class Firefox:
    """One browser with one page."""

    def __init__(self, executable: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="firefox-test-", ignore_cleanup_errors=True)
        folder = Path(self._profile.name)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (folder / "user.js").write_text("\n".join(lines))
        command = [executable, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0"]
        self._process = subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._stack = contextlib.ExitStack()
        self._next_id = 0
        self.console: list[str] = []
        try:
            self._socket = self._connect()
            self.call("session.new", capabilities={})
            self.call("session.subscribe", events=["log.entryAdded"])
            self._context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser; idempotent."""
        self._stack.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._profile.cleanup()

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

    def wait_for(self, expression: str, *, timeout_s: float = 15.0) -> float:
        """Wait until an expression is true; the seconds it took."""
        started = time.monotonic()
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() - started > timeout_s:
                state = self.evaluate("document.body.innerText.slice(0, 400)")
                raise TimeoutError(f"not within {timeout_s} s: {expression}; the page says: {state}; {self.console}")
            time.sleep(0.03)
        return time.monotonic() - started

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
