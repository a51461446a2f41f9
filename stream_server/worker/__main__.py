"""`python -m stream_server.worker RUN_DIR PARENT_PID NUMBER < CONFIG`: started by `stream_server.serve`."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from stream_server.config import ServerConfig, is_loopback
from stream_server.engine.parent import die_with_parent, ignore_terminal_interrupt, prefer_real_time
from stream_server.log_setup import set_up_logging
from stream_server.worker import aiortc_bridge
from stream_server.worker.control import ControlServer
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.port_range import PortRangeLoop
from stream_server.worker.session_registry import SessionRegistry
from stream_server.worker.threads import started_executor

__all__ = ["main"]


async def run(config: ServerConfig, run_dir: Path, number: int) -> None:
    """Serve until SIGTERM."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.set_default_executor(started_executor())
    engine = EngineClient(run_dir / "engine.sock")
    registry = SessionRegistry(config, engine, number)
    control = ControlServer(run_dir / f"worker-{number}.sock", registry, engine)
    engine.start()
    await control.start()
    gc.collect()
    gc.freeze()  # what is loaded stays: collections look at sessions only, and take milliseconds
    await stop.wait()
    await control.close()
    await registry.close_all()
    await engine.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    run_dir, parent_pid, number = (sys.argv[1:] if argv is None else list(argv))[:3]
    die_with_parent(int(parent_pid))
    ignore_terminal_interrupt()
    prefer_real_time(-10)  # before the engine: it paces, and needs little
    config = ServerConfig.from_json(sys.stdin.read())
    set_up_logging("worker", config.log_level, config.log_format)
    aiortc_bridge.offer_host_addresses(loopback=is_loopback(config.host))
    aiortc_bridge.repeat_consent_checks()
    ports, local_only = config.ports_of(int(number)), is_loopback(config.host)
    with asyncio.Runner(loop_factory=lambda: PortRangeLoop(ports, local_only=local_only)) as runner:
        runner.run(run(config, Path(run_dir), int(number)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
