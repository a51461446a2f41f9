"""WHIP (RFC 9725) in, WHEP out: standard publishers give their voice, standard players watch the avatar.

Trickle and ICE restart are not offered: the answer holds all candidates, and PATCH says so with 422.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from stream_server.front.context import Context, caller_of
from stream_server.front.ice import ice_servers, link_headers
from stream_server.front.problems import from_answer, problem
from stream_server.front.schemas import ControlValues

__all__ = ["whip_routes"]

_SDP = "application/sdp"
_MOST_ROOM = 64


def whip_routes(context: Context) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["whip and whep"])
    _add_whip(router, context)
    _add_whep(router, context)
    for prefix in ("whip", "whep"):
        _add_common(router, prefix)
    return router


def _add_whip(router: APIRouter, context: Context) -> None:
    @router.post("/whip/{room}", status_code=201)
    async def publish(room: str, request: Request) -> Response:
        """Publish a voice into a room: an avatar speaks with it. A second publisher gets 409."""
        sdp = await _offer(context, request, room)
        if isinstance(sdp, Response):
            return sdp
        options = context.options("microphone", None, ControlValues(), None)
        if isinstance(options, Response):
            return options
        async with context.admission.lock:
            status = await context.admit(None)
            if isinstance(status, Response):
                return status
            owner = caller_of(request).owner
            answer = await context.pool.of_room(room).ask("publish", owner=owner, room=room, sdp=sdp, options=options)
        return _created(context, request, f"/whip/{room}", answer)

    @router.delete("/whip/{room}/{session_id}", status_code=200)
    async def unpublish(room: str, session_id: str, request: Request) -> Response:
        """End a publication, and with it the session."""
        return await _end(context, request, room, session_id, "delete")


def _add_whep(router: APIRouter, context: Context) -> None:
    @router.post("/whep/{room}", status_code=201)
    async def watch(room: str, request: Request) -> Response:
        """Watch a room's avatar, or (with a session's id as the room) one's own session."""
        sdp = await _offer(context, request, room)
        if isinstance(sdp, Response):
            return sdp
        owner = caller_of(request).owner
        worker = context.pool.of_session(room)
        answer: dict[str, Any] | None = None
        if worker is not None:
            answer = await worker.ask("watch", owner=owner, id=room, sdp=sdp)
        if answer is None or answer.get("status") == 404:
            answer = await context.pool.of_room(room).ask("watch", owner=owner, room=room, sdp=sdp)
        return _created(context, request, f"/whep/{room}", answer)

    @router.delete("/whep/{room}/{viewer_id}", status_code=200)
    async def leave(room: str, viewer_id: str, request: Request) -> Response:
        """Stop watching."""
        return await _end(context, request, room, viewer_id, "forget")


def _add_common(router: APIRouter, prefix: str) -> None:
    @router.options(f"/{prefix}/{{room}}")
    async def options(room: str) -> Response:  # noqa: ARG001
        """What may be posted here."""
        return Response(status_code=204, headers={"Accept-Post": _SDP, "Allow": "OPTIONS, POST"})

    @router.patch(f"/{prefix}/{{room}}/{{resource}}")
    async def patch(room: str, resource: str) -> Response:  # noqa: ARG001
        """Neither trickle nor ICE restart."""
        return problem(422, "no-trickle", "the answer holds all candidates; trickle and ICE restart are not offered")


async def _offer(context: Context, request: Request, room: str) -> str | Response:
    if not (1 <= len(room) <= _MOST_ROOM and all(letter.isalnum() or letter in "_.-" for letter in room)):
        return problem(404, "no-such-room", "a room is 1 to 64 letters, digits, '_', '.' or '-'")
    if caller_of(request).room is not None:
        return problem(403, "other-room", "an invitation to a call opens no broadcast")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _SDP:
        return problem(415, "not-sdp", f"send the offer as {_SDP}")
    if (refusal := context.too_often(request)) is not None:
        return refusal
    try:
        sdp = (await request.body()).decode()
    except ClientDisconnect:
        return problem(400, "bad-offer", "the offer broke off")
    except UnicodeDecodeError:
        return problem(422, "bad-offer", "the offer is not UTF-8")
    return sdp or problem(422, "bad-offer", "the offer is empty")


def _created(context: Context, request: Request, base: str, answer: dict[str, Any]) -> Response:
    if (refusal := from_answer(answer)) is not None:
        return refusal
    headers = {"Location": f"{quote(base)}/{answer['id']}", "Accept-Patch": "application/trickle-ice-sdpfrag"}
    links = link_headers(ice_servers(context.config, caller_of(request)))
    if links:
        headers["Link"] = links
    return Response(answer["sdp"], status_code=201, media_type=_SDP, headers=headers)


async def _end(context: Context, request: Request, room: str, resource: str, kind: str) -> Response:
    worker = context.pool.of_session(resource)
    if worker is None:
        return problem(404, "no-such-session", f"there is no {resource[:40]!r} in room {room[:40]!r}")
    refusal = from_answer(await worker.ask(kind, owner=caller_of(request).owner, id=resource))
    return refusal if refusal is not None else Response(status_code=200)
