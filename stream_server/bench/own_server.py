"""A server of our own for the length of a measurement: `nerf-lipsync serve` as a child process on a free port."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from stream_server.bench.errors import BenchError

__all__ = ["OwnServer"]

_END_S = 15.0


class OwnServer:
    """`serve --timecode --port 0` with more arguments; `url`, `pid` and the `size` it serves once ready.

    Raises:
        BenchError: It did not get ready.
    """

    def __init__(self, *arguments: str, ready_s: float = 180.0) -> None:
        command = [sys.executable, "-m", "stream_server", "serve", "--timecode", "--port", "0", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.stderr: list[str] = []
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read_errors, daemon=True).start()
        threading.Thread(target=self._read_output, args=(lines,), daemon=True).start()
        try:
            self.ready_line = lines.get(timeout=ready_s)
        except queue.Empty:
            self.ready_line = ""
        if not self.ready_line.startswith("ready "):
            self.close()
            reason = " ".join(self.stderr[-3:]).strip() or f"it said nothing within {ready_s:g} s"
            raise BenchError(f"the server did not get ready: {reason}")
        words = self.ready_line.split()
        self.url = words[1]
        self.size = int(dict(word.split("=", 1) for word in words if "=" in word)["size"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; idempotent."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                self.stderr.append(line.rstrip())
                del self.stderr[:-50]

    def _read_output(self, lines: queue.Queue[str]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in pipe:
                lines.put(line.strip())
        lines.put("")
