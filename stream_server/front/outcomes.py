"""Counts what callers were answered: responses by status, and why sessions were refused."""

from __future__ import annotations

import json
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["OutcomeCounter", "Outcomes"]

_SPEAK = "/v1/speak"
_MOST_REASONS = 64


class Outcomes:
    """Since this process started."""

    def __init__(self) -> None:
        self.responses: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()

    def count_refusal(self, document: bytes | str) -> None:
        """A session was refused with this problem document or error event."""
        try:
            reason = str(json.loads(document)["code"])
        except (ValueError, KeyError, TypeError):
            reason = "unknown"
        if reason not in self.refused and len(self.refused) >= _MOST_REASONS:
            reason = "unknown"
        self.refused[reason] += 1


class OutcomeCounter:
    """ASGI middleware around everything else, so that the guard's refusals count as well."""

    def __init__(self, app: ASGIApp, outcomes: Outcomes) -> None:
        self._app = app
        self._outcomes = outcomes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, self._watch_http(scope, send))
        elif scope["type"] == "websocket" and scope["path"] == _SPEAK:
            await self._app(scope, receive, self._watch_socket(send))
        else:
            await self._app(scope, receive, send)

    def _watch_http(self, scope: Scope, send: Send) -> Send:
        path = str(scope["path"])
        opens = scope["method"] == "POST" and (path == "/v1/sessions" or path.startswith("/whip/"))
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                self._outcomes.responses[status] += 1
            elif opens and status >= 400 and message.get("body"):
                self._outcomes.count_refusal(message["body"])
            await send(message)

        return watched

    def _watch_socket(self, send: Send) -> Send:
        """The first message tells: a session's `ready`, or an error."""
        first = True

        async def watched(message: Message) -> None:
            nonlocal first
            if message["type"] == "websocket.http.response.body":
                self._outcomes.count_refusal(message.get("body", b""))
            elif message["type"] == "websocket.send" and first:
                first = False
                text = message.get("text") or ""
                if '"type": "error"' in text:
                    self._outcomes.count_refusal(text)
            await send(message)

        return watched
