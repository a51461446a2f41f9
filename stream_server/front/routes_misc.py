"""What there is to choose from, tickets, invitations, TURN credentials."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from stream_server.avatar_folders import describe_avatar
from stream_server.front.context import Context, caller_of
from stream_server.front.ice import TURN_LASTS_S, ice_servers
from stream_server.front.problems import problem
from stream_server.voices import list_voices

__all__ = ["choice_routes", "entry_routes"]

_NO_STORE = {"Cache-Control": "no-store"}


def choice_routes(context: Context) -> APIRouter:
    """Avatars, backgrounds, voices."""
    router = APIRouter(prefix="/v1", tags=["choices"])

    @router.get("/avatars")
    def avatars() -> dict[str, Any]:  # in a thread: it reads files
        """The avatars this server can show: name, licence, consent; `first` is what callers get who ask for none."""
        found = [{"id": i} | describe_avatar(folder) for i, folder in sorted(context.catalogue.avatars.items())]
        return {"avatars": found, "first": context.catalogue.first}

    @router.get("/avatars/{avatar_id}/preview.jpg", response_class=FileResponse)
    async def preview(avatar_id: str) -> Response:
        """A picture of an avatar."""
        folder = context.catalogue.avatars.get(avatar_id)
        if folder is None or not (folder / "preview.jpg").is_file():
            return problem(404, "no-such-avatar", f"there is no preview of {avatar_id[:40]!r}")
        return FileResponse(folder / "preview.jpg", media_type="image/jpeg")

    @router.get("/backgrounds")
    async def backgrounds() -> dict[str, Any]:
        """Ids of pictures; colors `#rrggbb` and the avatar's `own` can always be had."""
        return {"backgrounds": sorted(context.catalogue.backgrounds)}

    @router.get("/voices")
    async def voices() -> dict[str, Any]:
        """What can speak text here, the preferred one first."""
        return {"voices": list_voices(context.config.voice_settings())}

    return router


def entry_routes(context: Context) -> APIRouter:
    """Tickets, rooms, TURN."""
    router = APIRouter(prefix="/v1", tags=["entry"])

    @router.post("/tickets", status_code=201)
    async def ticket(request: Request) -> Response:
        """A ticket for one WebSocket, good for a minute: give it as the subprotocol `ticket.VALUE`."""
        if caller_of(request).room is not None:
            return problem(403, "other-room", "an invitation opens no assistant's socket")
        value = context.principals.ticket(caller_of(request))
        return JSONResponse({"ticket": value, "lasts_s": 60}, status_code=201, headers=_NO_STORE)

    @router.post("/rooms", status_code=201)
    async def room(request: Request) -> Response:
        """A room for two. `invitation` (null where no token is needed) lets its holder in, and nowhere else."""
        if caller_of(request).room is not None:
            return problem(403, "other-room", "an invitation opens no further rooms")
        name = secrets.token_urlsafe(16)
        invitation = None if context.config.token is None else context.principals.invite(name)
        return JSONResponse({"room": name, "invitation": invitation}, status_code=201, headers=_NO_STORE)

    @router.get("/ice-servers")
    async def ice(request: Request) -> Response:
        """`iceServers` for the browser, with credentials that last ten minutes."""
        servers = ice_servers(context.config, caller_of(request))
        return JSONResponse({"ice_servers": servers, "lasts_s": TURN_LASTS_S}, headers=_NO_STORE)

    return router
