"""Logging of every process: one record a line on stderr, as text or as JSON, with the process's role and the session.

Neither speech, nor SDP, nor tokens are ever logged: not by our modules, and the libraries that would show them when
asked for DEBUG are held at INFO or above.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

__all__ = ["LOG_FORMATS", "SessionLog", "set_up_logging"]

LOG_FORMATS = ("text", "json")

_LEAST_LEVELS = {
    "aioice": logging.WARNING,
    "aiortc": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn": logging.INFO,  # below it: every message of every WebSocket, and the headers it was opened with
    "websockets": logging.INFO,
    "httpcore": logging.INFO,
    "httpx": logging.WARNING,
    "asyncio": logging.INFO,
}


class SessionLog(logging.LoggerAdapter[logging.Logger]):
    """Puts a session's id on each of its records, as the field `session`."""

    def __init__(self, logger: logging.Logger, session_id: str) -> None:
        super().__init__(logger, {"session": session_id})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": self.extra}


class _TextFormatter(logging.Formatter):
    """`time level role logger [session=ID] message`."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {role} %(name)s %(session_text)s%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        session = getattr(record, "session", None)
        record.session_text = "" if session is None else f"session={session} "
        return super().formatMessage(record)


def set_up_logging(role: str, level: str = "INFO", log_format: str = "text") -> None:
    """Configure the root logger of this process; `log_format` is `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json_formatter(role) if log_format == "json" else _TextFormatter(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _LEAST_LEVELS.items():
        logging.getLogger(name).setLevel(max(least, root.level))


def _json_formatter(role: str) -> logging.Formatter:
    """One JSON object a line: timestamp (UTC), level, role, logger, event; session and exception where there are."""
    import structlog

    def add_role(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["role"] = role
        session = getattr(event.get("_record"), "session", None)
        if session is not None:
            event["session"] = session
        return event

    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_role,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
