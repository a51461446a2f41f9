"""The HTTP application: page, sessions, health."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from stream_server.avatar_folders import Catalogue
from stream_server.config import ServerConfig
from stream_server.front.admission import Admission
from stream_server.front.context import Context
from stream_server.front.guard import Guard
from stream_server.front.outcomes import OutcomeCounter, Outcomes
from stream_server.front.principals import Principals
from stream_server.front.problems import from_answer, http_problem, invalid_request, problem
from stream_server.front.rate_limit import RateLimit
from stream_server.front.routes_misc import choice_routes, entry_routes
from stream_server.front.routes_sessions import session_routes
from stream_server.front.routes_whip import whip_routes
from stream_server.front.speak_socket import speak_routes
from stream_server.front.worker_client import WorkerPool

__all__ = ["make_app"]

PAGE_DIR = Path(__file__).resolve().parents[2] / "client_web"


def make_app(
    config: ServerConfig, pool: WorkerPool, *, admission: Admission | None = None, outcomes: Outcomes | None = None
) -> FastAPI:
    """Build the application for these workers; `admission` and `outcomes` are shared with the metrics page."""
    context = Context(
        config=config,
        pool=pool,
        principals=Principals(config.token),
        admission=admission or Admission(config.max_sessions),
        offers=RateLimit(config.offers_per_minute),
        catalogue=Catalogue.find(config.avatar, config.avatars, config.backgrounds),
    )
    app = FastAPI(title="NeRF-LipSync", version="1", redoc_url=None)
    app.add_middleware(Guard, config=config, principals=context.principals)
    app.add_middleware(OutcomeCounter, outcomes=outcomes or Outcomes())
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(HTTPException, http_problem)
    _add_health(app, context)
    for routes in (session_routes, whip_routes, choice_routes, entry_routes, speak_routes):
        app.include_router(routes(context))
    app.mount("/", StaticFiles(directory=PAGE_DIR, html=True), name="page")
    return app


def _add_health(app: FastAPI, context: Context) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """This process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> JSONResponse:
        """Callers can be served: a worker answers and its engine has loaded the avatar."""
        status = await context.pool.status()
        if (refusal := from_answer(status)) is not None:
            return refusal
        if status["avatar"] is None:
            return problem(503, "not-ready", "the avatar is being loaded", retry_after_s=2)
        limit = context.limit(status)
        avatar = {name: value for name, value in status["avatar"].items() if name != "arkit_names"}
        body = {"status": "ready", "avatar": avatar, "sessions": status["sessions"], "limit": limit}
        return JSONResponse(body)
