"""`python -m stream_server.engine SOCKET PARENT_PID < CONFIG`: started by `stream_server.serve`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from stream_server.config import ServerConfig
from stream_server.engine.parent import die_with_parent, ignore_terminal_interrupt
from stream_server.log_setup import set_up_logging

EXIT_CANNOT_LOAD = 3
"""The avatar cannot be loaded; starting again would not help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Load, warm up, serve until SIGTERM."""
    socket_path, parent_pid = (sys.argv[1:] if argv is None else list(argv))[:2]
    die_with_parent(int(parent_pid))
    ignore_terminal_interrupt()
    config = ServerConfig.from_json(sys.stdin.read())
    set_up_logging("engine", config.log_level)
    from stream_server.engine.loading import load
    from stream_server.engine.process import Engine

    try:
        loaded = load(config)
    except Exception as error:  # the supervisor prints the line and stops
        logging.getLogger(__name__).debug("loading failed", exc_info=True)
        sys.stderr.write(f"cannot load the avatar: {error}\n")
        return EXIT_CANNOT_LOAD
    Engine(loaded, Path(socket_path)).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
