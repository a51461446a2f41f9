"""`python -m stream_server.worker RUN_DIR PARENT_PID NUMBER < CONFIG`: started by `stream_server.serve`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from stream_server.config import ServerConfig, is_loopback
from stream_server.engine.parent import die_with_parent, ignore_terminal_interrupt, prefer_real_time
from stream_server.log_setup import set_up_logging
from stream_server.media.encoder_trial import EncoderChoice, NoEncoderError, choose_encoders
from stream_server.worker import aiortc_bridge
from stream_server.worker.control import ControlServer
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.port_range import PortRangeLoop
from stream_server.worker.session_registry import SessionRegistry
from stream_server.worker.sinks.virtual_camera import CameraError, VirtualCamera, check_camera, load_backend
from stream_server.worker.threads import started_executor

__all__ = ["EXIT_CANNOT_START", "main"]

log = logging.getLogger(__name__)

EXIT_CANNOT_START = 3
"""What was asked for is not to be had on this machine: starting again would not help, and the user can mend it."""
_FPS = 25


async def run(config: ServerConfig, run_dir: Path, number: int) -> None:
    """Serve until SIGTERM.

    Raises:
        NoEncoderError, CameraError: What was asked for does not work here.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.set_default_executor(started_executor())
    engine = EngineClient(run_dir / "engine.sock")
    encoders, camera = await asyncio.to_thread(_find_hardware, config)
    registry = SessionRegistry(config, engine, encoders, camera, worker=number)
    control = ControlServer(run_dir / f"worker-{number}.sock", registry, engine)
    engine.start()
    await control.start()
    gc.collect()
    gc.freeze()  # what is loaded stays: collections look at sessions only, and take milliseconds
    await stop.wait()
    await control.close()
    await registry.close_all()
    await engine.close()


def _find_hardware(config: ServerConfig) -> tuple[EncoderChoice, VirtualCamera | None]:
    """What encodes, and the camera if one is asked for. Slow, bounded by the trials' own time limits."""
    encoders = choose_encoders(config.encoder)
    if not config.virtual_camera:
        return encoders, None
    backend = load_backend()
    name = check_camera(backend, config.camera_device, size=config.size, fps=_FPS)
    log.info("the virtual camera is %s", name)
    return encoders, VirtualCamera(backend, config.camera_device, fps=_FPS)


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
        try:
            runner.run(run(config, Path(run_dir), int(number)))
        except (NoEncoderError, CameraError) as error:
            sys.stderr.write(f"nerf-lipsync: {error}\n")
            return EXIT_CANNOT_START
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
