"""What is counted, how it reads as Prometheus text, and a real server's own account of a call."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aioice.ice
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError
from stream_server.front.admission import Admission
from stream_server.front.app import make_app
from stream_server.front.metrics_page import make_metrics_app, metrics_text
from stream_server.front.outcomes import Outcomes
from stream_server.front.worker_client import WorkerPool
from stream_server.media.trace import STAGES
from stream_server.metrics import BUCKETS_MS, Histogram, SessionCounters, WorkerTotals
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_process import ServerProcess
from tests.stream_server.test_front import AVATAR, FakeWorker, ok

AWAY = {"type": "problem", "status": 503, "code": "not-ready", "detail": "away"}


def read(text: bytes | str) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    found = {}
    for family in text_string_to_metric_families(text if isinstance(text, str) else text.decode()):
        for sample in family.samples:
            found[(sample.name, *(v for _, v in sorted(sample.labels.items())))] = sample.value
    return found


def status(totals: WorkerTotals, **counters: int) -> dict[str, Any]:
    return ok(
        avatar=AVATAR,
        sessions=2,
        busy_ms_per_hop=16.0,
        stuck_s=0.0,
        metrics=totals.to_json(SessionCounters(**counters)),
    )


def test_a_time_falls_into_the_bucket_it_does_not_exceed() -> None:
    histogram = Histogram()
    for value in (0.0, 0.5, 0.6, 40.0, 5000.1):
        histogram.observe(value)
    counts = histogram.to_json()["counts"]
    assert [counts[0], counts[1], counts[BUCKETS_MS.index(40.0)], counts[-1], sum(counts)] == [2, 1, 1, 1, 5]
    assert histogram.to_json()["sum_ms"] == pytest.approx(5041.2)


def test_workers_are_gathered_in_seconds_with_summed_buckets() -> None:
    totals = WorkerTotals()
    totals.frame({"engine": 30.0, "hold": 3.0})
    totals.frame({"engine": 90.0, "hold": 3.0})
    totals.hop({"render": 7.0})
    totals.session_opened("speech")
    totals.closed.frames_sent = 5
    outcomes = Outcomes()
    outcomes.count_refusal('{"code": "busy"}')
    found = read(metrics_text([status(totals, frames_sent=7), AWAY], Admission(0), outcomes))
    stage = "nerf_lipsync_stage_seconds"
    # label values in the order of label names: le, stage, worker
    assert found[stage + "_bucket", "0.02", "engine", "0"] == 0
    assert found[stage + "_bucket", "0.04", "engine", "0"] == 1
    assert found[stage + "_bucket", "0.12", "engine", "0"] == found[stage + "_bucket", "+Inf", "engine", "0"] == 2
    assert found[stage + "_sum", "engine", "0"] == pytest.approx(0.12)
    assert found["nerf_lipsync_frame_seconds_sum", "0"] == pytest.approx(0.126)
    assert found["nerf_lipsync_engine_part_seconds_count", "render", "0"] == 1
    assert found["nerf_lipsync_frames_sent_total", "0"] == 12
    assert found["nerf_lipsync_sessions_opened_total", "speech", "0"] == 1
    assert found["nerf_lipsync_sessions_refused_total", "busy"] == 1
    assert found["nerf_lipsync_sessions_limit",] == 4  # 0.8 * 80 ms / 16 ms
    assert (found["nerf_lipsync_worker_up", "0"], found["nerf_lipsync_worker_up", "1"]) == (1, 0)
    assert ("nerf_lipsync_engine_up", "1") not in found


def test_the_page_answers_to_loopback_names_only() -> None:
    app = make_metrics_app(WorkerPool([FakeWorker(status=status(WorkerTotals()))]), Admission(3), Outcomes())

    async def get(host: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{host}") as client:
            return await client.get("/metrics")

    page = asyncio.run(get("127.0.0.1"))
    assert page.headers["content-type"].startswith("text/plain")
    assert read(page.text)["nerf_lipsync_sessions_limit",] == 3
    assert asyncio.run(get("rebound.example")).status_code == 400


def test_every_refusal_is_counted_by_its_reason() -> None:
    outcomes = Outcomes()
    created = ok(id="0-x", sdp="v=0", resume_token="t", avatar="default")
    config = ServerConfig(offers_per_minute=12)
    app = make_app(config, WorkerPool([FakeWorker(create=created)]), outcomes=outcomes)

    async def run() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for _ in range(5):
                await client.post("/v1/sessions", json={"sdp": "v=0"})
            await client.post(
                "/v1/sessions", json={"sdp": "v=0", "avatar": "nobody"}, headers={"Origin": "http://evil"}
            )
            await client.post("/v1/sessions", json={"wrong": 1})
            await client.get("/v1/sessions/9-x")  # refuses no session

    asyncio.run(run())
    assert outcomes.refused == {"too-many": 2, "wrong-origin": 1, "invalid": 1}
    assert outcomes.responses == {201: 3, 429: 2, 403: 1, 422: 1, 404: 1}


def test_reasons_are_bounded() -> None:
    outcomes = Outcomes()
    for number in range(100):
        outcomes.count_refusal(f'{{"code": "made-up-{number}"}}')
    outcomes.count_refusal("no JSON")
    assert len(outcomes.refused) == 65
    assert outcomes.refused["unknown"] == 37


def test_settings_are_checked() -> None:
    with pytest.raises(ServerConfigError, match="another port"):
        ServerConfig(port=9000, metrics_port=9000)
    with pytest.raises(ServerConfigError, match="got 70000"):
        ServerConfig(metrics_port=70_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_tells_how_its_call_fares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()
    port = free_port()

    async def scrape() -> dict[tuple[str, ...], float]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return read((await client.get(f"http://127.0.0.1:{port}/metrics", timeout=10)).text)

    async def run(server: ServerProcess) -> tuple[str, list[dict[tuple[str, ...], float]]]:
        pages = []
        async with RealPeer(server.url) as peer, httpx.AsyncClient(trust_env=False) as client:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 30)
            assert (await peer.offer()).status_code == 503
            pages.append(await scrape())
            await client.delete(f"{server.url}/v1/sessions/{peer.session}", timeout=10)
        pages.append(await scrape())
        return str(peer.session), pages

    with ServerProcess("--max-sessions", "1", "--metrics-port", str(port)) as server:
        session, (during, after) = asyncio.run(run(server))
        assert httpx.get(server.url + "/metrics", trust_env=False).status_code == 404
    frames = during["nerf_lipsync_frame_seconds_count", "0"]
    assert frames >= 25
    assert during["nerf_lipsync_frames_sent_total", "0"] == frames
    assert {key[1] for key in during if key[0] == "nerf_lipsync_stage_seconds_count"} == set(STAGES)
    assert all(during["nerf_lipsync_stage_seconds_count", stage, "0"] == frames for stage in STAGES)
    total_s = during["nerf_lipsync_frame_seconds_sum", "0"]
    assert total_s == pytest.approx(sum(during["nerf_lipsync_stage_seconds_sum", s, "0"] for s in STAGES), abs=0.01)
    assert during["nerf_lipsync_engine_part_seconds_count", "render", "0"] >= frames // 2 - 1
    assert during["nerf_lipsync_sessions_opened_total", "microphone", "0"] == 1
    assert during["nerf_lipsync_sessions_refused_total", "busy"] == 1
    assert (during["nerf_lipsync_sessions", "0"], after["nerf_lipsync_sessions", "0"]) == (1, 0)
    assert (during["nerf_lipsync_engine_up", "0"], during["nerf_lipsync_sessions_limit",]) == (1, 1)
    assert after["nerf_lipsync_frames_sent_total", "0"] >= frames  # what is over still counts
    assert not any(session in part for key in (*during, *after) for part in key)
