"""`python -m stream_server.front RUN_DIR PARENT_PID LISTENING_FD [METRICS_FD] < CONFIG`, as `serve` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from stream_server.config import ServerConfig
from stream_server.engine.parent import die_with_parent, ignore_terminal_interrupt
from stream_server.front.admission import Admission
from stream_server.front.app import make_app
from stream_server.front.metrics_page import make_metrics_app
from stream_server.front.outcomes import Outcomes
from stream_server.front.worker_client import GatePool, WorkerClient, WorkerPool
from stream_server.log_setup import set_up_logging

__all__ = ["main"]


class _Server(uvicorn.Server):
    """uvicorn that leaves Ctrl-C to the supervisor."""

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 - uvicorn's signature
        """SIGTERM ends the process without waiting for idle connections."""
        self.should_exit = True
        self.force_exit = True


class _Beside(uvicorn.Server):
    """uvicorn that leaves all signals to the server it runs beside."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    run_dir, parent_pid, *descriptors = sys.argv[1:] if argv is None else list(argv)
    die_with_parent(int(parent_pid))
    config = ServerConfig.from_json(sys.stdin.read())
    set_up_logging("front", config.log_level, config.log_format)
    ignore_terminal_interrupt()
    clients = [WorkerClient(Path(run_dir) / f"worker-{number}.sock") for number in range(config.workers)]
    pool = GatePool(clients) if config.cluster else WorkerPool(clients)
    admission, outcomes = Admission(config.max_sessions), Outcomes()
    app = make_app(config, pool, admission=admission, outcomes=outcomes)
    server = _Server(_settings(app, int(descriptors[0])))
    if len(descriptors) > 1:
        metrics = _Beside(_settings(make_metrics_app(pool, admission, outcomes), int(descriptors[1])))
        asyncio.run(_serve_both(server, metrics))
    else:
        server.run()
    return 0


def _settings(app: ASGIApp, descriptor: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        fd=descriptor,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=1 << 20,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
    )


async def _serve_both(server: uvicorn.Server, beside: uvicorn.Server) -> None:
    """Until the first ends."""
    task = asyncio.create_task(beside.serve())
    try:
        await server.serve()
    finally:
        beside.should_exit = beside.force_exit = True
        await task


if __name__ == "__main__":
    raise SystemExit(main())
