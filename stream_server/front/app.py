"""The HTTP application: page, sessions, health."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from stream_server.config import ServerConfig
from stream_server.front.guard import Guard
from stream_server.front.problems import from_answer, problem
from stream_server.front.worker_client import WorkerClient

__all__ = ["make_app"]

PAGE_DIR = Path(__file__).resolve().parents[2] / "client_web"


class SessionOffer(BaseModel):
    """An SDP offer with one audio section, one video section and the data channel `events`."""

    model_config = ConfigDict(extra="forbid")
    sdp: str = Field(min_length=1, max_length=100_000)
    type: str = Field(default="offer", pattern="^offer$")


def make_app(config: ServerConfig, worker: WorkerClient) -> FastAPI:
    """Build the application for one worker."""
    app = FastAPI(title="NeRF-LipSync", version="1", redoc_url=None)
    app.middleware("http")(Guard(config).__call__)
    _add_health(app, worker)
    _add_sessions(app, worker)
    app.mount("/", StaticFiles(directory=PAGE_DIR, html=True), name="page")
    return app


def _add_health(app: FastAPI, worker: WorkerClient) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Callers can be served: the worker answers and its engine has loaded the avatar."""
        status = await worker.ask("status")
        if (refusal := from_answer(status)) is not None:
            return refusal
        if status["avatar"] is None:
            return problem(503, "not-ready", "the avatar is being loaded", retry_after_s=2)
        return JSONResponse({"status": "ready", "avatar": status["avatar"], "sessions": status["sessions"]})

    @app.get("/v1/avatars")
    async def avatars() -> JSONResponse:
        """The avatars this server can show."""
        status = await worker.ask("status")
        if (refusal := from_answer(status)) is not None:
            return refusal
        return JSONResponse({"avatars": [] if status["avatar"] is None else [status["avatar"]]})


def _add_sessions(app: FastAPI, worker: WorkerClient) -> None:
    @app.post("/v1/sessions", status_code=201)
    async def create(offer: SessionOffer) -> JSONResponse:
        """Open a session: the answer to an SDP offer."""
        answer = await worker.ask("create", sdp=offer.sdp)
        if (refusal := from_answer(answer)) is not None:
            return refusal
        body: dict[str, Any] = {"id": answer["id"], "sdp": answer["sdp"], "type": "answer", "synthetic": True}
        return JSONResponse(body, status_code=201, headers={"Location": f"/v1/sessions/{answer['id']}"})

    @app.delete("/v1/sessions/{session_id}", status_code=204)
    async def delete(session_id: str) -> Response:
        """Close a session."""
        answer = await worker.ask("delete", id=session_id)
        if (refusal := from_answer(answer)) is not None:
            return refusal
        if not answer["closed"]:
            return problem(404, "no-such-session", f"there is no session {session_id[:40]!r}")
        return Response(status_code=204)
