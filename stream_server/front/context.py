"""What the routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response, WebSocket

from stream_server.avatar_folders import Catalogue
from stream_server.config import ServerConfig
from stream_server.front.admission import Admission
from stream_server.front.principals import Principal, Principals
from stream_server.front.problems import from_answer, problem
from stream_server.front.rate_limit import RateLimit
from stream_server.front.schemas import ControlValues
from stream_server.front.worker_client import WorkerPool

__all__ = ["Context", "caller_of"]


@dataclass(frozen=True)
class Context:
    """One server's parts."""

    config: ServerConfig
    pool: WorkerPool
    principals: Principals
    admission: Admission
    offers: RateLimit
    catalogue: Catalogue

    def too_often(self, request: Request | WebSocket) -> Response | None:
        """A refusal if this caller opens sessions faster than it may."""
        client = request.client.host if request.client is not None else "?"
        wait_s = self.offers.take(f"{caller_of(request).owner}@{client}")
        if wait_s is None:
            return None
        return problem(429, "too-many", "this caller opens sessions too fast", retry_after_s=wait_s)

    def options(
        self, source: str, avatar: str | None, controls: ControlValues, seed: int | None
    ) -> dict[str, Any] | Response:
        """What a session is opened with, or a refusal."""
        name = avatar or self.catalogue.first
        if name not in self.catalogue.avatars:
            known = ", ".join(sorted(self.catalogue.avatars))
            return problem(404, "no-such-avatar", f"there is no avatar {name!r}; there is {known}")
        return {"source": source, "avatar": name, "controls": controls.given(), "seed": seed}

    def limit(self, status: dict[str, Any]) -> int:
        """Sessions at most: a cluster counts its places itself."""
        if "limit" in status:
            return int(status["limit"])
        return self.admission.limit(status["avatar"], status["busy_ms_per_hop"])

    async def admit(self, ticket: str | None) -> dict[str, Any] | Response:
        """The server's status if there is a place, or a refusal. Call it with `admission.lock` held."""
        status = await self.pool.status()
        if (refusal := from_answer(status)) is not None:
            return refusal
        if status["avatar"] is None:
            return problem(503, "not-ready", "the avatar is being loaded", retry_after_s=2)
        limit = self.limit(status)
        full = self.admission.decide(status["sessions"], limit, ticket)
        if full is None:
            return status
        detail = f"{limit} of {limit} places are taken; you are number {full.position} in the queue"
        return problem(
            503,
            "busy",
            detail,
            retry_after_s=full.retry_after_s,
            queue_position=full.position,
            queue_ticket=full.ticket,
        )


def caller_of(request: Request | WebSocket) -> Principal:
    """Who the guard found this to be."""
    caller: Principal = request.state.caller
    return caller
