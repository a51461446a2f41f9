"""The HTTP side, with a made-up worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stream_server.avatar_folders import describe_avatar
from stream_server.config import ServerConfig
from stream_server.front import worker_client
from stream_server.front.app import make_app
from stream_server.front.worker_client import WorkerClient, WorkerPool

AVATAR = {"id": "default", "name": "default", "size": 256, "hop_frames": 2, "fps": 25, "step_ms": 8.0}
OPTIONS = {"source": "microphone", "avatar": "default", "controls": {}, "seed": None}


class FakeWorker(WorkerClient):
    """Answers what it is told to."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        super().__init__(Path("nowhere"))
        status = ok(avatar=AVATAR, sessions=0, peers=0, busy_ms_per_hop=0.0)
        self.answers = {"status": status} | answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        self.asked.append((kind, values))
        return self.answers[kind]


def request(
    worker: FakeWorker, method: str, path: str, config: ServerConfig | None = None, host: str = "127.0.0.1", **more: Any
) -> httpx.Response:
    """One request to the application, without a network."""

    async def run() -> httpx.Response:
        app = make_app(config or ServerConfig(), WorkerPool([worker]))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080") as client:
            return await client.request(method, path, **more)

    return asyncio.run(run())


def ok(**values: Any) -> dict[str, Any]:
    return {"type": "ok"} | values


def test_alive_without_a_worker() -> None:
    assert request(FakeWorker(), "GET", "/healthz").json() == {"status": "alive"}


def test_ready_only_with_an_avatar() -> None:
    loading = request(FakeWorker(status=ok(avatar=None, sessions=0, peers=0, busy_ms_per_hop=0.0)), "GET", "/readyz")
    assert (loading.status_code, loading.headers["Retry-After"]) == (503, "2")
    assert loading.json()["detail"] == "the avatar is being loaded"
    ready = request(FakeWorker(), "GET", "/readyz")
    assert ready.status_code == 200


def test_a_session_is_created() -> None:
    worker = FakeWorker(create=ok(id="0-abc", sdp="v=0 answer", resume_token="again", avatar="default"))
    answer = request(worker, "POST", "/v1/sessions", json={"sdp": "v=0", "type": "offer"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/sessions/0-abc"
    wanted = {"id": "0-abc", "sdp": "v=0 answer", "resume_token": "again", "avatar": "default"}
    assert answer.json() == wanted | {"type": "answer", "synthetic": True}
    asked = {"owner": "local", "sdp": "v=0", "options": OPTIONS, "room": None}
    assert worker.asked == [("status", {}), ("create", asked)]


def test_a_busy_server_says_when_to_come_again() -> None:
    busy = {"type": "problem", "status": 503, "code": "busy", "detail": "1 of 1 places", "retry_after_s": 5}
    answer = request(FakeWorker(create=busy), "POST", "/v1/sessions", json={"sdp": "v=0"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "busy"


@pytest.mark.parametrize("body", [{}, {"sdp": ""}, {"sdp": "v=0", "type": "answer"}, {"sdp": "v=0", "more": 1}])
def test_a_malformed_offer_is_refused(body: dict[str, Any]) -> None:
    assert request(FakeWorker(), "POST", "/v1/sessions", json=body).status_code == 422


def test_an_offer_from_a_foreign_page_needs_permission() -> None:
    """A cross-site form or text/plain post never reaches the worker."""
    headers = {"Content-Type": "text/plain"}
    answer = request(FakeWorker(), "POST", "/v1/sessions", content=b'{"sdp": "v=0"}', headers=headers)
    assert answer.status_code == 422


def test_a_session_is_deleted_once() -> None:
    gone = {"type": "problem", "status": 404, "code": "no-such-session", "detail": "there is no session"}
    assert request(FakeWorker(delete=ok()), "DELETE", "/v1/sessions/0-abc").status_code == 204
    assert request(FakeWorker(delete=gone), "DELETE", "/v1/sessions/0-abc").status_code == 404
    assert request(FakeWorker(), "DELETE", "/v1/sessions/abc").status_code == 404


def test_the_token_is_asked_for_under_v1_only() -> None:
    config = ServerConfig(token="correct horse")
    worker = FakeWorker()
    refused = request(worker, "GET", "/v1/avatars", config)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    wrong = request(worker, "GET", "/v1/avatars", config, headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401
    right = request(worker, "GET", "/v1/avatars", config, headers={"Authorization": "Bearer correct horse"})
    assert (right.status_code, right.json()["first"]) == (200, "default")
    assert request(worker, "GET", "/", config).status_code == 200


def test_a_loopback_server_answers_to_no_other_name() -> None:
    assert request(FakeWorker(), "GET", "/healthz", host="rebound.example").status_code == 421
    assert request(FakeWorker(), "GET", "/healthz", host="localhost").status_code == 200


def test_the_page_asks_nobody_else() -> None:
    page = request(FakeWorker(), "GET", "/")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "synthetic" in page.text


def test_a_room_may_have_a_name_in_any_script() -> None:
    """It was published, and the publisher told that the server had failed."""
    worker = FakeWorker(publish=ok(id="0-abc", sdp="v=0 answer", resume_token="again", avatar="default"))
    headers = {"Content-Type": "application/sdp"}
    answer = request(worker, "POST", "/whip/\u90e8\u5c4b", content=b"v=0", headers=headers)
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/whip/%E9%83%A8%E5%B1%8B/0-abc"
    assert worker.asked[-1][1]["room"] == "\u90e8\u5c4b"


def test_a_session_goes_to_a_worker_that_has_its_engine() -> None:
    """A worker that was started again has no calls, and no engine for a moment."""
    started = FakeWorker(status=ok(avatar=None, sessions=0, peers=0, busy_ms_per_hop=0.0))
    busy = FakeWorker(status=ok(avatar=AVATAR, sessions=3, peers=3, busy_ms_per_hop=0.0))
    found = asyncio.run(WorkerPool([started, busy]).status())
    assert (found["idlest"], found["sessions"]) == (1, 3)
    assert asyncio.run(WorkerPool([started]).status())["idlest"] == 0


def test_a_worker_that_hangs_is_not_waited_for_with_every_new_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admission holds its lock while it counts: each new call stood 20 s behind a worker that had stopped."""
    monkeypatch.setattr(worker_client, "STATUS_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    async def count() -> dict[str, Any]:
        async with await asyncio.start_unix_server(hang, tmp_path / "worker.sock"):
            hanging = WorkerClient(tmp_path / "worker.sock", timeout_s=600.0)
            try:
                async with asyncio.timeout(60.0):
                    return await WorkerPool([hanging, FakeWorker()]).status()
            finally:
                release.set()

    assert asyncio.run(count())["idlest"] == 1


def test_what_is_wrong_with_an_avatar_does_not_tell_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "broken" / "avatar.json").mkdir(parents=True)
    about = describe_avatar(tmp_path / "broken")
    assert about["error"] == "cannot be read: Is a directory"


@pytest.mark.parametrize("path", ["/whip/room", "/whep/room", "/v1/sessions"])
def test_a_body_that_does_not_say_how_long_it_is_ends_at_the_limit(path: str) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"a=" + b"x" * 10_000

    content_type = "application/json" if path.startswith("/v1") else "application/sdp"
    answer = request(FakeWorker(), "POST", path, content=endless(), headers={"Content-Type": content_type})
    assert answer.status_code == 413
    assert answer.json()["detail"] == "a request holds at most 262144 bytes"


def test_each_avatar_is_read_once_for_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All were read for each of them, and everybody's requests waited meanwhile."""
    for n in range(5):
        (tmp_path / f"a{n}").mkdir()
        (tmp_path / f"a{n}" / "avatar.json").write_text(f'{{"name": "A {n}"}}')
    read: list[tuple[str, bool]] = []
    read_text = Path.read_text

    def counting(path: Path, *arguments: Any, **named: Any) -> str:
        if path.name == "avatar.json" and path.is_relative_to(tmp_path):
            read.append((path.parent.name, threading.current_thread() is threading.main_thread()))
        return read_text(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", counting)
    found = request(FakeWorker(), "GET", "/v1/avatars", ServerConfig(avatars=str(tmp_path))).json()["avatars"]
    assert [about["name"] for about in found if about["id"].startswith("a")] == [f"A {n}" for n in range(5)]
    assert sorted(read) == [(f"a{n}", False) for n in range(5)]


def test_an_offer_that_breaks_off_is_no_failure_of_the_server() -> None:
    """Its trace went to the log."""
    messages = iter([{"type": "http.request", "body": b"v=0", "more_body": True}, {"type": "http.disconnect"}])
    answered: list[int] = []

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.append(message["status"])

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/sdp")]
    scope = {"type": "http", "method": "POST", "path": "/whip/room", "headers": headers, "query_string": b""}
    asyncio.run(make_app(ServerConfig(), WorkerPool([FakeWorker()]))(scope, receive, send))
    assert answered == [400]
