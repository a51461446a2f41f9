"""Who may use the server: the bearer token, and the names a loopback server answers to."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.responses import Response

from stream_server.config import ServerConfig, is_loopback
from stream_server.front.problems import problem

__all__ = ["Guard"]

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """Middleware. A loopback server refuses other host names, so that no web site can reach it by a name of
    its own (DNS rebinding); with a token everything under /v1 needs it."""

    def __init__(self, config: ServerConfig) -> None:
        self._loopback = is_loopback(config.host)
        self._token = config.token

    async def __call__(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if self._loopback and not is_loopback(_host_name(request)):
            return problem(421, "wrong-host", "this server answers to localhost and loopback addresses only")
        if request.url.path.startswith("/v1/") and not self._authorized(request):
            return problem(401, "token-needed", "send the server's token as 'Authorization: Bearer ...'")
        response = await call_next(request)
        if not request.url.path.startswith("/docs"):
            response.headers["Content-Security-Policy"] = _PAGE_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Permissions-Policy"] = "microphone=(self)"
        return response

    def _authorized(self, request: Request) -> bool:
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode())


def _host_name(request: Request) -> str:
    host = request.headers.get("host", "")
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.partition(":")[0]
