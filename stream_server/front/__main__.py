"""`python -m stream_server.front RUN_DIR PARENT_PID LISTENING_FD < CONFIG`: started by `stream_server.serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from stream_server.config import ServerConfig
from stream_server.engine.parent import die_with_parent, ignore_terminal_interrupt
from stream_server.front.app import make_app
from stream_server.front.worker_client import WorkerClient, WorkerPool
from stream_server.log_setup import set_up_logging

__all__ = ["main"]


class _Server(uvicorn.Server):
    """uvicorn that leaves Ctrl-C to the supervisor."""

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 - uvicorn's signature
        """SIGTERM ends the process without waiting for idle connections."""
        self.should_exit = True
        self.force_exit = True


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    run_dir, parent_pid, descriptor = (sys.argv[1:] if argv is None else list(argv))[:3]
    die_with_parent(int(parent_pid))
    config = ServerConfig.from_json(sys.stdin.read())
    set_up_logging("front", config.log_level)
    ignore_terminal_interrupt()
    clients = [WorkerClient(Path(run_dir) / f"worker-{number}.sock") for number in range(config.workers)]
    settings = uvicorn.Config(
        make_app(config, WorkerPool(clients)),
        fd=int(descriptor),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=1 << 20,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
    )
    _Server(settings).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
