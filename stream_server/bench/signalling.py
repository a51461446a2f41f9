"""Plain HTTP for offers and answers, off the event loop's thread. No proxy is asked: the way is what is measured."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from dataclasses import dataclass

from stream_server.bench.errors import BenchError, RefusedError

__all__ = ["Reply", "delete", "post"]

_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer."""

    status: int
    location: str | None
    body: str


async def post(
    url: str, body: str, *, content_type: str, token: str | None = None, timeout_s: float = _TIMEOUT_S
) -> Reply:
    """POST `body`.

    Raises:
        RefusedError: The answer's status is 400 or more.
        BenchError: There is no answer.
    """
    return await asyncio.to_thread(_request, url, "POST", body.encode(), content_type, token, timeout_s)


async def delete(url: str, token: str | None = None) -> None:
    """DELETE; an error is no matter, since a server also notices that a peer is gone."""
    try:
        await asyncio.to_thread(_request, url, "DELETE", None, None, token)
    except BenchError:
        return


def _request(
    url: str,
    method: str,
    body: bytes | None,
    content_type: str | None,
    token: str | None,
    timeout_s: float = _TIMEOUT_S,
) -> Reply:
    if not url.startswith(("http://", "https://")):
        raise BenchError(f"need a URL that begins with http:// or https://, got {url!r}")
    request = urllib.request.Request(url, data=body, method=method)
    if content_type is not None:
        request.add_header("Content-Type", content_type)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return Reply(answer.status, answer.headers.get("Location"), answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
            raise RefusedError(url, error.code, text, _seconds(error.headers.get("Retry-After"))) from error
    except OSError as error:
        raise BenchError(f"no answer from {url}: {error}; is a server running there?") from error


def _seconds(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None
