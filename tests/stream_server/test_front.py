"""The HTTP side, with a made-up worker."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from stream_server.config import ServerConfig
from stream_server.front.app import make_app

AVATAR = {"name": "default", "size": 256}


class FakeWorker:
    """Answers what it is told to."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        self.asked.append((kind, values))
        return self.answers[kind]


def request(
    worker: FakeWorker, method: str, path: str, config: ServerConfig | None = None, host: str = "127.0.0.1", **more: Any
) -> httpx.Response:
    """One request to the application, without a network."""
    import asyncio

    async def run() -> httpx.Response:
        app = make_app(config or ServerConfig(), worker)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080") as client:
            return await client.request(method, path, **more)

    return asyncio.run(run())


def ok(**values: Any) -> dict[str, Any]:
    return {"type": "ok"} | values


def test_alive_without_a_worker() -> None:
    assert request(FakeWorker(), "GET", "/healthz").json() == {"status": "alive"}


def test_ready_only_with_an_avatar() -> None:
    loading = request(FakeWorker(status=ok(avatar=None, sessions=0)), "GET", "/readyz")
    assert (loading.status_code, loading.headers["Retry-After"]) == (503, "2")
    assert loading.json()["detail"] == "the avatar is being loaded"
    ready = request(FakeWorker(status=ok(avatar=AVATAR, sessions=0)), "GET", "/readyz")
    assert ready.status_code == 200


def test_a_session_is_created() -> None:
    worker = FakeWorker(create=ok(id="abc", sdp="v=0 answer"))
    answer = request(worker, "POST", "/v1/sessions", json={"sdp": "v=0", "type": "offer"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/v1/sessions/abc"
    assert answer.json() == {"id": "abc", "sdp": "v=0 answer", "type": "answer", "synthetic": True}
    assert worker.asked == [("create", {"sdp": "v=0"})]


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
    assert request(FakeWorker(delete=ok(closed=True)), "DELETE", "/v1/sessions/abc").status_code == 204
    assert request(FakeWorker(delete=ok(closed=False)), "DELETE", "/v1/sessions/abc").status_code == 404


def test_the_token_is_asked_for_under_v1_only() -> None:
    config = ServerConfig(token="correct horse")
    worker = FakeWorker(status=ok(avatar=AVATAR, sessions=0))
    refused = request(worker, "GET", "/v1/avatars", config)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    wrong = request(worker, "GET", "/v1/avatars", config, headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401
    right = request(worker, "GET", "/v1/avatars", config, headers={"Authorization": "Bearer correct horse"})
    assert right.json() == {"avatars": [AVATAR]}
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
