"""Drives the system's headless Chromium over its DevTools protocol; no more than a measurement or a test needs."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

__all__ = ["Browser", "Chromium", "find_chromium"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--window-size=1100,900",
)


def find_chromium(chosen: str | None = None) -> str | None:
    """Path of the browser `chosen`, or of the first found; None if there is none."""
    return shutil.which(chosen) if chosen else next((p for name in NAMES if (p := shutil.which(name))), None)


class Browser:
    """A browser process with a profile of its own and one page; ends with its context."""

    def __init__(self, command: list[str], profile: tempfile.TemporaryDirectory[str]) -> None:
        self._profile = profile
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack = contextlib.ExitStack()
        self._next_id = 0
        self.console: list[str] = []

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
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._profile.cleanup()

    def evaluate(self, expression: str, *, timeout_s: float = 30.0) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        raise NotImplementedError

    def wait_for(self, expression: str, *, timeout_s: float = 15.0) -> float:
        """Wait until an expression is true; the seconds it took."""
        started = time.monotonic()
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() - started > timeout_s:
                state = self.evaluate("document.body.innerText.slice(0, 400)")
                raise TimeoutError(f"not within {timeout_s} s: {expression}; the page says: {state}; {self.console}")
            time.sleep(0.03)
        return time.monotonic() - started


class Chromium(Browser):
    """One browser with one page. A microphone plays `microphone_wav` over and over."""

    def __init__(self, executable: str, microphone_wav: Path, *, grant: bool = True, dark: bool = False) -> None:
        profile = tempfile.TemporaryDirectory(prefix="chromium-test-", ignore_cleanup_errors=True)
        flags = [*FLAGS, f"--user-data-dir={profile.name}"]
        flags += [f"--use-file-for-fake-audio-capture={microphone_wav}"]
        flags += ["--use-fake-ui-for-media-stream"] if grant else ["--deny-permission-prompts"]
        flags += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        super().__init__([executable, *flags, "about:blank"], profile)
        try:
            self._socket = self._connect()
            self._session = self._attach()
        except BaseException:
            self.close()
            raise

    def open(self, url: str) -> None:
        """Go to a page and wait for it to load."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str, *, timeout_s: float = 30.0) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        arguments = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", timeout_s=timeout_s, **arguments)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Save the page as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def call(self, method: str, *, timeout_s: float = 30.0, **parameters: Any) -> dict[str, Any]:
        """One DevTools command."""
        self._next_id += 1
        message = {"id": self._next_id, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        deadline = time.monotonic() + timeout_s
        while True:
            answer = json.loads(self._socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if answer.get("id") == self._next_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(json.dumps(answer["params"])[:300])

    def _connect(self) -> ClientConnection:
        port_file = Path(self._profile.name, "DevToolsActivePort")
        deadline = time.monotonic() + 30
        while not (port_file.exists() and len(port_file.read_text().split()) == 2):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("Chromium did not start")
            time.sleep(0.02)
        port, path = port_file.read_text().split()
        return self._stack.enter_context(
            connect(f"ws://127.0.0.1:{port}{path}", max_size=None, compression=None, proxy=None)
        )

    def _attach(self) -> str:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        session = str(self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"])
        self._session = session
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return session
