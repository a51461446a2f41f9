"""The real server as a child process, on a free port, with the stand-in pipeline or the trained avatar."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from stream_server.engine.__main__ import STANDBY_NAME
from tests.stream_server.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
FAKE = "tests.stream_server.fake_pipeline:FakePipeline"


START_S = 60.0 * PATIENCE
"""How long a server may take to start."""


class ServerProcess:
    """`nerf-lipsync serve` with these arguments; `ready_line` is what it printed. `python_path`: more modules."""

    def __init__(
        self,
        *arguments: str,
        pipeline: str | None = FAKE,
        timeout_s: float = START_S,
        stderr: IO[str] | None = None,
        python_path: Path | None = None,
    ) -> None:
        command = [sys.executable, "-m", "stream_server", "serve", "--port", "0", *arguments]
        command += ["--pipeline", pipeline] if pipeline else []
        command += ["--no-standby"] if pipeline and "--standby" not in arguments else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (ROOT, python_path))))}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        assert self.process.stdout is not None
        killer = threading.Timer(timeout_s, self.process.kill)
        killer.start()
        self.ready_line = self.process.stdout.readline().strip()
        killer.cancel()
        if not self.ready_line.startswith("ready "):
            self.stop()
            raise RuntimeError(f"the server did not get ready within {timeout_s} s")
        self.url = self.ready_line.split()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.returncode

    def children(self) -> dict[str, int]:
        """Process ids by role; `standby` is the engine that waits to take over."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if len(words) > 2:  # it has begun, and has not ended
                waits = Path(f"/proc/{pid}/comm").read_text().strip() == STANDBY_NAME
                found.setdefault("standby" if waits else words[2].decode().rpartition(".")[2], int(pid))
        return found

    def standby_is_ready(self) -> bool:
        """An engine stands by, has imported torch and waits for its settings."""
        pid = self.children().get("standby")
        if pid is None:
            return False
        reads = Path(f"/proc/{pid}/wchan").read_text()
        return "pipe" in reads and "libtorch" in Path(f"/proc/{pid}/maps").read_text()

    def get(self, path: str) -> Any:
        """A JSON document of the server."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)
