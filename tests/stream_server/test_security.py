"""Every route without a token, with a foreign one, from a wrong host and a wrong origin; and what is nobody's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from stream_server.config import ServerConfig
from stream_server.front.app import make_app
from stream_server.front.guard import MOST_BODY_BYTES
from stream_server.front.ice import ice_servers
from stream_server.front.principals import LOCAL, Principal, Principals
from stream_server.front.worker_client import WorkerPool
from tests.stream_server.server_process import ServerProcess
from tests.stream_server.test_front import FakeWorker, ok

TOKEN = "correct horse battery"
OPEN = {"/healthz", "/readyz"}
HOST = "avatars.example"
OUTSIDE = ServerConfig(host="0.0.0.0", token=TOKEN, allowed_hosts=(HOST,), turn_urls=("turn:t:3478",), turn_secret="s3")


def app_of(config: ServerConfig = OUTSIDE, **answers: dict[str, Any]) -> FastAPI:
    return make_app(config, WorkerPool([FakeWorker(**answers)]))


@asynccontextmanager
async def calling(app: FastAPI, host: str = HOST) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


def routes() -> Iterator[tuple[str, str]]:
    for path, methods in app_of().openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path
    yield "GET", "/docs"
    yield "GET", "/openapi.json"


def filled(path: str) -> str:
    for name in ("session_id", "viewer_id", "resource", "avatar_id", "room"):
        path = path.replace("{" + name + "}", "0-abcdefgh")
    return path


ROUTES = sorted(set(routes()))


def ask(app: FastAPI, method: str, path: str, host: str = HOST, **more: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with calling(app, host) as client:
            return await client.request(method, path, **more)

    return asyncio.run(run())


def test_the_walk_sees_the_routes() -> None:
    paths = {path for _, path in ROUTES}
    assert {"/v1/sessions", "/whip/{room}", "/whep/{room}", "/v1/tickets", "/v1/avatars", "/healthz"} <= paths
    assert {method for method, _ in ROUTES} == {"GET", "POST", "PATCH", "DELETE", "OPTIONS"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_without_the_token(method: str, path: str) -> None:
    app = app_of()
    wanted = 200 if path in OPEN else 401
    assert ask(app, method, filled(path)).status_code == wanted
    foreign = {"Authorization": "Bearer wrong horse battery"}
    assert ask(app, method, filled(path), headers=foreign).status_code == wanted
    query = ask(app, method, filled(path), params={"token": TOKEN})
    assert query.status_code == wanted, "a token in the query must not count"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_for_another_host_or_page(method: str, path: str) -> None:
    app, right = app_of(), {"Authorization": f"Bearer {TOKEN}"}
    assert ask(app, method, filled(path), host="rebound.example", headers=right).status_code == 421
    for origin in ("https://evil.example", "null", f"http://{HOST}.evil.example", "http://["):
        assert ask(app, method, filled(path), headers=right | {"Origin": origin}).status_code == 403
    same = ask(app, method, filled(path), headers=right | {"Origin": f"http://{HOST}"})
    assert same.status_code not in (401, 403, 421)


def test_a_loopback_server_refuses_other_pages_too() -> None:
    app = app_of(ServerConfig())
    for origin in ("https://evil.example", "http://localhost:9999", "null"):
        answer = ask(app, "GET", "/v1/avatars", host="localhost:8080", headers={"Origin": origin})
        assert answer.status_code == 403, origin
    own = ask(app, "GET", "/v1/avatars", host="localhost:8080", headers={"Origin": "http://localhost:8080"})
    assert own.status_code == 200


def test_sockets_need_a_ticket_or_the_token() -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}

    async def opened(server: ServerProcess, headers: dict[str, str] | None = None, ticket: str = "") -> str:
        protocols = [Subprotocol("nerf-lipsync"), *([Subprotocol(f"ticket.{ticket}")] if ticket else [])]
        url = server.url.replace("http", "ws") + "/v1/speak"
        async with connect(url, additional_headers=headers, subprotocols=protocols, proxy=None) as socket:
            await socket.send('{"type": "start", "rate_hz": 8000}')
            return str(json.loads(await socket.recv())["code"])

    async def run(server: ServerProcess) -> None:
        for headers in (None, {"Authorization": "Bearer wrong"}, right | {"Origin": "https://evil.example"}):
            with pytest.raises(InvalidStatus) as refused:
                await opened(server, headers)
            assert refused.value.response.status_code in (401, 403)
        assert await opened(server, right) == "bad-start"
        async with httpx.AsyncClient(trust_env=False, base_url=server.url, headers=right) as client:
            ticket = (await client.post("/v1/tickets")).json()["ticket"]
        assert await opened(server, ticket=ticket) == "bad-start"
        with pytest.raises(InvalidStatus):
            await opened(server, ticket=ticket)

    with ServerProcess("--token", TOKEN) as server:
        asyncio.run(run(server))


def test_tickets_and_invitations_end() -> None:
    now = [0.0]
    known = Principals(TOKEN, now_s=lambda: now[0])
    owner = known.of_header(f"Bearer {TOKEN}")
    assert owner is not None
    first, second = known.ticket(owner), known.ticket(owner)
    assert known.of_ticket(first) == owner
    assert known.of_ticket(first) is None
    now[0] = 61.0
    assert known.of_ticket(second) is None
    invited = known.of_header(f"Bearer {known.invite('the-room')}")
    assert invited is not None
    assert invited.room == "the-room"
    assert invited.owner != owner.owner
    assert known.of_header("Bearer ") is None
    assert known.of_header("") is None
    assert Principals(None).of_header("") == LOCAL
    assert Principals(None).of_header("Bearer anything") is None


def test_an_invitation_is_for_its_room_only() -> None:
    app = app_of(create=ok(id="0-x", sdp="v=0", resume_token="t", avatar="default"))
    right = {"Authorization": f"Bearer {TOKEN}"}
    made = ask(app, "POST", "/v1/rooms", headers=right).json()
    guest = {"Authorization": f"Bearer {made['invitation']}"}
    inside = {"sdp": "v=0", "room": made["room"]}
    assert ask(app, "POST", "/v1/sessions", headers=guest, json=inside).status_code == 201
    for body in ({"sdp": "v=0"}, {"sdp": "v=0", "room": "another-room"}):
        assert ask(app, "POST", "/v1/sessions", headers=guest, json=body).status_code == 403
    for path in ("/v1/rooms", "/v1/tickets"):
        assert ask(app, "POST", path, headers=guest).status_code == 403
    sdp = {"Content-Type": "application/sdp"}
    assert ask(app, "POST", "/whip/show", headers=guest | sdp, content="v=0").status_code == 403


def test_sessions_are_asked_for_in_their_owners_name() -> None:
    worker = FakeWorker(info=ok(id="0-abc"))
    app = make_app(OUTSIDE, WorkerPool([worker]))
    ask(app, "GET", "/v1/sessions/0-abc", headers={"Authorization": f"Bearer {TOKEN}"})
    owner = worker.asked[-1][1]["owner"]
    assert owner not in ("local", TOKEN)
    assert len(owner) == 16


@pytest.mark.parametrize("length", ["stated", "unstated"])
def test_large_bodies_end_at_the_limit(length: str) -> None:
    big = b'{"sdp": "' + b"x" * (10 << 20) + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 1 << 16):
            yield big[start : start + (1 << 16)]

    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content: Any = big if length == "stated" else pieces()
    answer = ask(app_of(), "POST", "/v1/sessions", headers=headers, content=content)
    assert answer.status_code in (400, 413)
    assert len(big) > MOST_BODY_BYTES


def test_offers_are_counted() -> None:
    app = app_of(ServerConfig(offers_per_minute=8), create=ok(id="0-x", sdp="v=0", resume_token="t", avatar="default"))

    async def run() -> list[httpx.Response]:
        async with calling(app, "localhost") as client:
            return [await client.post("/v1/sessions", json={"sdp": "v=0"}) for _ in range(4)]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60


def test_turn_is_for_those_with_a_token() -> None:
    assert ice_servers(OUTSIDE, LOCAL) == []
    (server,) = ice_servers(OUTSIDE, Principal("me"), now_s=1_000_000.0)
    assert server["username"] == "1000600:me"
    digest = hmac.new(b"s3", server["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(server["credential"]) == digest
    right = {"Authorization": f"Bearer {TOKEN}"}
    answer = ask(app_of(), "GET", "/v1/ice-servers", headers=right)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json()["ice_servers"][0]["urls"] == ["turn:t:3478"]


@pytest.mark.parametrize(
    "controls",
    [
        {"yaw_deg": 91},
        {"yaw_deg": "NaN"},
        {"mood_strength": -0.1},
        {"gaze_rad": [0.1]},
        {"gaze_rad": [9, 0]},
        {"colour": "red"},
        {"background": "x" * 65},
    ],
)
def test_controls_out_of_range_never_reach_a_worker(controls: dict[str, Any]) -> None:
    worker = FakeWorker()
    app = make_app(ServerConfig(), WorkerPool([worker]))
    answer = ask(app, "PATCH", "/v1/sessions/0-abc", host="localhost", json={"controls": controls})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert worker.asked == []
    raw = b'{"controls": {"yaw_deg": NaN}}'
    headers = {"Content-Type": "application/json"}
    assert ask(app, "PATCH", "/v1/sessions/0-abc", host="localhost", content=raw, headers=headers).status_code == 422


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc", "http://x", "a/b", "ü", ""])
def test_names_are_never_paths(name: str) -> None:
    answer = ask(app_of(ServerConfig()), "POST", "/v1/sessions", host="localhost", json={"sdp": "v=0", "avatar": name})
    assert answer.status_code == 422
