"""Exceptions as the answers that the front makes problem documents of."""

from __future__ import annotations

import logging
from typing import Any

from stream_server.errors import (
    ConflictError,
    EngineLostError,
    NotFoundError,
    OfferError,
    RefusedError,
    ServerBusyError,
    StreamServerError,
    VoiceError,
)

__all__ = ["answer_error"]

log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[StreamServerError], int, str], ...] = (
    (EngineLostError, 503, "not-ready"),
    (ServerBusyError, 503, "busy"),
    (OfferError, 422, "bad-offer"),
    (NotFoundError, 404, "no-such-session"),
    (ConflictError, 409, "conflict"),
    (VoiceError, 422, "no-voice"),
    (RefusedError, 422, "refused"),
    (StreamServerError, 400, "bad-request"),
)


def answer_error(error: Exception) -> dict[str, Any]:
    """An exception as a problem; one that is not ours goes to the log with its trace."""
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            body = {"type": "problem", "status": status, "code": code, "detail": str(error)}
            retry = {"retry_after_s": getattr(error, "retry_after_s", 2)} if status == 503 else {}
            return body | retry
    log.error("a control request failed", exc_info=error)
    detail = "the request failed; see the server's log"
    return {"type": "problem", "status": 500, "code": "internal", "detail": detail}
