"""`python -m stream_server.engine SOCKET PARENT_PID < CONFIG`: started by `stream_server.serve`.

An engine that is given no settings yet stands by: it imports everything and waits for them.
"""

from __future__ import annotations

import logging
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from stream_server.config import ServerConfig
from stream_server.engine.parent import die_with_parent, ignore_terminal_interrupt, name_process, prefer_real_time
from stream_server.log_setup import set_up_logging

STANDBY_NAME = "engine-standby"
"""What `ps` and `top` show of an engine that waits for its settings."""
EXIT_CANNOT_LOAD = 3
"""The avatar, or what it needs, is missing or damaged: starting again would not help, and the user can mend it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Load, warm up, serve until SIGTERM."""
    socket_path, parent_pid = (sys.argv[1:] if argv is None else list(argv))[:2]
    die_with_parent(int(parent_pid))
    ignore_terminal_interrupt()
    name_process(STANDBY_NAME)
    from model.errors import ModelError
    from stream_server.engine.loading import import_model, load
    from stream_server.engine.process import Engine
    from stream_server.errors import ServerConfigError

    if not select.select([sys.stdin], [], [], 0.0)[0]:
        import_model()
    settings = sys.stdin.read()
    if not settings:
        return 0  # the server ended and never needed this one
    prefer_real_time(-5)
    name_process("engine")
    config = ServerConfig.from_json(settings)
    set_up_logging("engine", config.log_level, config.log_format)
    try:
        loaded = load(config)
    except (ModelError, ServerConfigError) as error:
        logging.getLogger(__name__).debug("loading failed", exc_info=True)
        sys.stderr.write(f"nerf-lipsync: cannot load the avatar: {' '.join(str(error).split())}\n")
        return EXIT_CANNOT_LOAD
    Engine(loaded, Path(socket_path)).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
