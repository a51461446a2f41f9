"""`/v1/sessions`: our own calls, with data channels."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from stream_server.front.context import Context, caller_of
from stream_server.front.problems import from_answer, problem
from stream_server.front.schemas import Resume, SessionChange, SessionOffer, Speech
from stream_server.front.worker_client import WorkerClient

__all__ = ["session_routes"]


def session_routes(context: Context) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
    _add_opening(router, context)
    _add_steering(router, context)
    return router


def _add_opening(router: APIRouter, context: Context) -> None:
    @router.post("", status_code=201)
    async def create(offer: SessionOffer, request: Request) -> Response:
        """Open a session: the answer to an SDP offer. 503 says when to come again and keeps the place in the queue."""
        caller = caller_of(request)
        if caller.room is not None and offer.room != caller.room:
            return problem(403, "other-room", "this invitation is for one room only")
        if (refusal := context.too_often(request)) is not None:
            return refusal
        options = context.options(offer.source, offer.avatar, offer.controls, offer.seed)
        if isinstance(options, Response):
            return options
        async with context.admission.lock:
            status = await context.admit(offer.queue_ticket)
            if isinstance(status, Response):
                return status
            worker = context.pool.of_room(offer.room) if offer.room else context.pool.number(status["idlest"])
            answer = await worker.ask("create", owner=caller.owner, sdp=offer.sdp, options=options, room=offer.room)
        return _opened(answer)

    @router.post("/{session_id}/resume", status_code=201)
    async def resume(session_id: str, offer: Resume, request: Request) -> Response:
        """Another connection in the place of the one a session had: after a change of network, or a reload."""
        if (refusal := context.too_often(request)) is not None:
            return refusal
        values = {"id": session_id, "token": offer.resume_token, "sdp": offer.sdp}
        return _opened(await _ask(context, request, session_id, "resume", values))


def _add_steering(router: APIRouter, context: Context) -> None:
    @router.get("/{session_id}")
    async def info(session_id: str, request: Request) -> Response:
        """What a session is doing."""
        return _plain(await _ask(context, request, session_id, "info", {"id": session_id}))

    @router.patch("/{session_id}")
    async def change(session_id: str, body: SessionChange, request: Request) -> Response:
        """Other controls, or another avatar, from the next 80 ms on."""
        if body.avatar is not None and body.avatar not in context.catalogue.avatars:
            return problem(404, "no-such-avatar", f"there is no avatar {body.avatar!r}; see /v1/avatars")
        controls = None if body.controls is None else body.controls.given()
        message = {"type": "control", "controls": controls, "avatar": body.avatar}
        return _plain(await _ask(context, request, session_id, "do", {"id": session_id, "message": message}))

    @router.post("/{session_id}/speech", status_code=202)
    async def speech(session_id: str, body: Speech, request: Request) -> Response:
        """Say a text, after what is being said; events on the session tell when it is heard."""
        message = {"type": "say"} | body.model_dump()
        answer = await _ask(context, request, session_id, "do", {"id": session_id, "message": message})
        return _plain(answer, status=202)

    @router.post("/{session_id}/interrupt")
    async def interrupt(session_id: str, request: Request) -> Response:
        """Stop what is being said, mouth and sound together; `cut` utterances will not be heard to their end."""
        message = {"type": "interrupt"}
        return _plain(await _ask(context, request, session_id, "do", {"id": session_id, "message": message}))

    @router.delete("/{session_id}", status_code=204)
    async def delete(session_id: str, request: Request) -> Response:
        """Close a session."""
        refusal = from_answer(await _ask(context, request, session_id, "delete", {"id": session_id}))
        return refusal if refusal is not None else Response(status_code=204)


async def _ask(
    context: Context, request: Request, session_id: str, kind: str, values: dict[str, Any]
) -> dict[str, Any]:
    worker: WorkerClient | None = context.pool.of_session(session_id)
    if worker is None:
        detail = f"there is no session {session_id[:40]!r}"
        return {"type": "problem", "status": 404, "code": "no-such-session", "detail": detail}
    return await worker.ask(kind, owner=caller_of(request).owner, **values)


def _opened(answer: dict[str, Any]) -> Response:
    if (refusal := from_answer(answer)) is not None:
        return refusal
    body = {name: answer[name] for name in ("id", "sdp", "resume_token", "avatar")}
    if "ingresses" in answer:
        body["ingresses"] = answer["ingresses"]
    headers = {"Location": f"/v1/sessions/{answer['id']}"}
    return JSONResponse(body | {"type": "answer", "synthetic": True}, status_code=201, headers=headers)


def _plain(answer: dict[str, Any], status: int = 200) -> Response:
    if (refusal := from_answer(answer)) is not None:
        return refusal
    return JSONResponse({name: value for name, value in answer.items() if name != "type"}, status_code=status)
