"""Errors of the measurements."""

from __future__ import annotations

import contextlib
import json

from stream_server.errors import StreamServerError

__all__ = ["BenchError", "RefusedError"]


class BenchError(StreamServerError):
    """Nothing could be measured; the message says why and what to do."""


class RefusedError(BenchError):
    """The server answered an offer with something other than a session.

    `retry_after_s` is what it asked for, None if it did not; `code` is the problem's, empty if it gave none.
    """

    def __init__(self, url: str, status: int, body: str, retry_after_s: float | None) -> None:
        super().__init__(f"{url} answered {status}: {body[:200]}")
        self.status = status
        self.code = ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            self.code = str(json.loads(body)["code"])
        self.retry_after_s = retry_after_s
