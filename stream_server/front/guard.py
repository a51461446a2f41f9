"""Who may use the server, checked for every request and every WebSocket before anything else looks at it."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_server.config import ServerConfig, is_loopback
from stream_server.front.principals import Principal, Principals
from stream_server.front.problems import problem

__all__ = ["MOST_BODY_BYTES", "SOCKET_PROTOCOL", "Guard"]

MOST_BODY_BYTES = 256 * 1024
_TOO_LARGE = f"a request holds at most {MOST_BODY_BYTES} bytes"
SOCKET_PROTOCOL = "nerf-lipsync"
_TICKET_PREFIX = "ticket."
_OPEN_PATHS = ("/healthz", "/readyz")
_GUARDED = ("/v1", "/whip", "/whep", "/docs", "/openapi.json")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """ASGI middleware. Puts the caller (a `Principal`) into the scope's state as `caller`.

    - A loopback server answers to loopback names only, so that no web site can reach it by a name of its own (DNS
      rebinding); one beyond loopback to the names it was told, if it was told any.
    - A page of another origin may not call: its browser sends `Origin`.
    - Everything but the page and its health needs the token, a room's invitation, or for a socket a ticket, which
      comes as the WebSocket subprotocol `ticket.VALUE` beside `nerf-lipsync`. Nothing secret is taken from queries.
    - Bodies are bounded.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig, principals: Principals) -> None:
        self._app = app
        self._loopback = is_loopback(config.host)
        self._hosts = {name.lower() for name in config.allowed_hosts}
        self._principals = principals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive), _with_headers(scope["path"], send))

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._answers_to(host):
            return problem(421, "wrong-host", "this server does not answer to this host name")
        origin = headers.get("origin")
        if origin is not None and not self._same_site(origin, host):
            return problem(403, "wrong-origin", f"pages of {origin[:80]} may not use this server")
        if _length(headers) > MOST_BODY_BYTES:
            return problem(413, "too-large", _TOO_LARGE)
        path = str(scope["path"])
        if not path.startswith(_GUARDED) or path in _OPEN_PATHS:
            return None
        caller = self._caller(scope, headers)
        if caller is None:
            return problem(401, "token-needed", "send the server's token as 'Authorization: Bearer ...'")
        scope.setdefault("state", {})["caller"] = caller
        return None

    def _caller(self, scope: Scope, headers: Headers) -> Principal | None:
        if scope["type"] == "websocket":
            for name in headers.get("sec-websocket-protocol", "").split(","):
                if name.strip().startswith(_TICKET_PREFIX):
                    return self._principals.of_ticket(name.strip()[len(_TICKET_PREFIX) :])
        return self._principals.of_header(headers.get("authorization", ""))

    def _answers_to(self, host: str) -> bool:
        name = _name(host)
        if self._loopback:
            return is_loopback(name)
        return not self._hosts or name in self._hosts

    def _same_site(self, origin: str, host: str) -> bool:
        try:
            netloc = urlsplit(origin).netloc
        except ValueError:
            return False
        return bool(netloc) and (netloc.lower() == host.lower() or _name(netloc) in self._hosts)


def _name(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")].lower()
    return host.partition(":")[0].lower()


def _length(headers: Headers) -> int:
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:
        return MOST_BODY_BYTES + 1


def _bounded(receive: Receive) -> Receive:
    """A body that is longer than it said (or says nothing) ends where the limit is."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BODY_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return bounded


def _with_headers(path: str, send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if not path.startswith("/docs"):
                headers["Content-Security-Policy"] = _PAGE_POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Permissions-Policy"] = "microphone=(self)"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        await send(message)

    return wrapped


async def _refuse(refusal: JSONResponse, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await refusal(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await send(
            {"type": "websocket.http.response.start", "status": refusal.status_code, "headers": refusal.raw_headers}
        )
        await send({"type": "websocket.http.response.body", "body": refusal.body})
    else:
        await send({"type": "websocket.close", "code": 1008})
