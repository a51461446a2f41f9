"""TURN for callers behind NATs that let nothing through: credentials that last ten minutes, for those we know.

The scheme is coturn's `use-auth-secret`: the user name is the time of expiry, the password its HMAC-SHA1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

from stream_server.config import ServerConfig
from stream_server.front.principals import LOCAL, Principal

__all__ = ["TURN_LASTS_S", "ice_servers", "link_headers"]

TURN_LASTS_S = 600


def ice_servers(config: ServerConfig, caller: Principal, now_s: float | None = None) -> list[dict[str, Any]]:
    """`RTCIceServer` values for this caller; none for callers without a token, or without a TURN server."""
    if not config.turn_urls or config.turn_secret is None or caller == LOCAL:
        return []
    until = int(time.time() if now_s is None else now_s) + TURN_LASTS_S
    name = f"{until}:{caller.owner}"
    digest = hmac.new(config.turn_secret.encode(), name.encode(), hashlib.sha1).digest()
    return [{"urls": list(config.turn_urls), "username": name, "credential": base64.b64encode(digest).decode()}]


def link_headers(servers: list[dict[str, Any]]) -> str:
    """The same as RFC 9725 (section 4.6) wants it in a `Link` header; empty without servers."""
    links = []
    for server in servers:
        for url in server["urls"]:
            login = (
                f'; username="{server["username"]}"; credential="{server["credential"]}"; credential-type="password"'
            )
            links.append(f'<{url}>; rel="ice-server"{login}')
    return ", ".join(links)
