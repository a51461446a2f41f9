"""A tiny WHEP server of aiortc and Starlette, watched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aioice.ice
import numpy as np
import pytest
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from av import VideoFrame
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stream_server.bench.errors import BenchError, RefusedError
from stream_server.bench.load_report import whep_figures
from stream_server.bench.whep import watch

WIDTH, HEIGHT, FPS = 320, 240, 30


class Stripes(VideoStreamTrack):
    """A moving picture at aiortc's own 30 frames per second."""

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[:, pts // 3000 % WIDTH :: 16] = 255
        frame = VideoFrame.from_ndarray(picture)
        frame.pts, frame.time_base = pts, time_base
        return frame


class TinyWhep:
    """POST /whep answers an offer, DELETE of what it names ends it; `token` must come with it."""

    def __init__(self) -> None:
        self.connections: dict[str, RTCPeerConnection] = {}
        self.deleted: list[str] = []
        routes = [
            Route("/whep", self.post, methods=["POST"]),
            Route("/whep/{name}", self.delete, methods=["DELETE"]),
            Route("/broken", self.broken, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def post(self, request: Request) -> Response:
        if request.headers.get("authorization") != "Bearer let-me-in":
            return PlainTextResponse("who are you?", 401)
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTrack(Stripes())
        await connection.setRemoteDescription(RTCSessionDescription((await request.body()).decode(), "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        name = str(len(self.connections))
        self.connections[name] = connection
        headers = {"Location": f"/whep/{name}"}
        return Response(connection.localDescription.sdp, 201, headers, media_type="application/sdp")

    async def delete(self, request: Request) -> Response:
        self.deleted.append(request.path_params["name"])
        await self.connections[self.deleted[-1]].close()
        return Response()

    async def broken(self, request: Request) -> Response:
        return Response("v=0\r\nnonsense", 201, media_type="application/sdp")


@contextlib.asynccontextmanager
async def serving(whep: TinyWhep) -> AsyncIterator[str]:
    config = uvicorn.Config(whep.app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    sockets = [config.bind_socket()]
    task = asyncio.create_task(server.serve(sockets))
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        for connection in whep.connections.values():
            await connection.close()
        sockets[0].close()


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


def test_a_foreign_server_is_measured() -> None:
    async def run() -> None:
        whep = TinyWhep()
        async with serving(whep) as url:
            measured = await watch(f"{url}/whep", 3.0, token="let-me-in")
        assert (measured.width, measured.height) == (WIDTH, HEIGHT)
        assert measured.fps == pytest.approx(FPS, rel=0.15)
        assert measured.interval_p50_ms == pytest.approx(1000 / FPS, rel=0.2)
        assert measured.interval_p50_ms <= measured.interval_p95_ms <= measured.longest_ms
        assert 0 < measured.first_frame_s < 10
        assert measured.bytes_per_s > 1000
        assert whep.deleted == ["0"]
        assert whep_figures(measured)["frame_interval_p95"].value == measured.interval_p95_ms

    asyncio.run(run())


def test_a_refusal_says_status_and_reason() -> None:
    async def run() -> None:
        async with serving(TinyWhep()) as url:
            with pytest.raises(RefusedError, match="401: who are you"):
                await watch(f"{url}/whep", 1.0)

    asyncio.run(run())


def test_an_answer_that_is_no_sdp_is_an_error() -> None:
    async def run() -> None:
        async with serving(TinyWhep()) as url:
            with pytest.raises(BenchError, match="cannot be used"):
                await watch(f"{url}/broken", 1.0)

    asyncio.run(run())
