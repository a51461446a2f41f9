"""Real processes, a real peer without a browser, and a stand-in for the model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aioice.ice
import httpx
import numpy as np
import pytest

from stream_server.events import ErrorEvent, NoticeEvent, ReadyEvent, TimingEvent
from stream_server.serve import _Child, _spawn
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_process import ROOT, ServerProcess

HEAVY = ("libtorch", "cv2", "mediapipe", "_dlib", "onnxruntime")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--timecode", "--max-sessions", "1") as process:
        yield process


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()


def in_call(server: ServerProcess, talk: Callable[[RealPeer], Awaitable[None]]) -> RealPeer:
    """Call the server, run `talk`, hang up; the peer with what it collected."""

    async def run() -> RealPeer:
        async with RealPeer(server.url) as peer:
            await peer.call()
            await talk(peer)
            if peer.session:
                async with httpx.AsyncClient(trust_env=False) as client:
                    await client.delete(f"{server.url}/v1/sessions/{peer.session}", timeout=10)
            return peer

    return asyncio.run(run())


def test_the_ready_line_says_what_there_is(server: ServerProcess) -> None:
    words = server.ready_line.split()
    assert words[0] == "ready"
    assert [word.partition("=")[0] for word in words[2:6]] == ["avatar", "size", "isa", "fps"]
    assert server.get("/readyz")["status"] == "ready"


def test_frames_sound_and_events_come_back(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        await peer.until(lambda: len(peer.codes) >= 100 and sum(isinstance(e, TimingEvent) for e in peer.events) >= 2)

    peer = in_call(server, talk)
    assert isinstance(peer.events[0], ReadyEvent)
    assert peer.events[0].algorithmic_ms == 140.0
    codes = [code for code in peer.codes if code is not None]
    assert len(codes) >= 0.98 * len(peer.codes)
    assert np.all(np.diff(codes) >= 0)
    assert codes[-1] - codes[0] <= 1.1 * len(codes)  # hardly a frame is missing
    timing = next(event for event in reversed(peer.events) if isinstance(event, TimingEvent))
    assert timing.total_ms == pytest.approx(sum(timing.stages_ms.values()), abs=1e-6)
    mouth, loudness = np.array(peer.mouths[25:]), np.array(peer.loudness[50:])
    assert np.ptp(mouth) > 10
    assert loudness.max() > 1000
    assert loudness.min() < 100


def test_time_goes_on_when_the_caller_falls_silent(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        await peer.until(lambda: len(peer.codes) >= 25)
        peer.voice.muted.set()
        start = len(peer.codes)
        await peer.until(lambda: len(peer.codes) >= start + 50, timeout_s=5.0)

    peer = in_call(server, talk)
    assert np.ptp(peer.mouths[-10:]) < 2


def test_a_second_caller_is_told_to_come_again(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        async with RealPeer(server.url) as other:
            response = await other.offer()
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "5"
        assert response.json()["code"] == "busy"
        assert (response.json()["queue_position"], bool(response.json()["queue_ticket"])) == (1, True)
        await peer.until(lambda: len(peer.codes) >= 5)

    in_call(server, talk)


def test_a_place_is_free_again_when_the_caller_hangs_up(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        await peer.until(lambda: len(peer.codes) >= 3)
        peer.session = None  # no DELETE: the peer's own goodbye must do

    in_call(server, talk)

    async def again() -> None:
        async with RealPeer(server.url) as peer, httpx.AsyncClient(trust_env=False) as client:

            async def accepted() -> bool:
                response = await peer.offer()
                if response.status_code == 201:
                    await client.delete(server.url + response.headers["Location"], timeout=10)
                return response.status_code == 201

            await eventually(accepted, timeout_s=10)

    asyncio.run(again())


@pytest.mark.parametrize("sdp", ["nonsense", "v=0\r\n"])
def test_an_offer_that_cannot_be_answered_is_refused(server: ServerProcess, sdp: str) -> None:
    response = httpx.post(f"{server.url}/v1/sessions", json={"sdp": sdp}, trust_env=False, timeout=10)
    assert response.status_code == 422
    assert response.json()["code"] == "bad-offer"


def test_only_the_engine_loads_the_model(server: ServerProcess) -> None:
    children = server.children()
    assert set(children) == {"engine", "worker", "front"}
    maps = {name: Path(f"/proc/{pid}/maps").read_text() for name, pid in children.items()}
    assert "libtorch" in maps["engine"]
    for name in ("worker", "front"):
        assert [heavy for heavy in HEAVY if heavy in maps[name]] == []


def test_a_call_outlives_its_engine(server: ServerProcess) -> None:
    """Killed in the middle of a call, the engine is started again, and the call goes on where it was in time."""

    async def talk(peer: RealPeer) -> None:
        await peer.until(lambda: len(peer.codes) >= 5)
        os.kill(server.children()["engine"], signal.SIGKILL)
        await peer.until(lambda: "engine-back" in notices(peer), timeout_s=30)
        seen = len(peer.codes)
        await peer.until(lambda: len(peer.codes) >= seen + 75)
        moving = peer.mouths[seen + 25 :]
        assert np.ptp(moving) > 10

    peer = in_call(server, talk)
    assert notices(peer) == ["engine-lost", "engine-back"]
    assert not any(isinstance(event, ErrorEvent) for event in peer.events)
    codes = [code for code in peer.codes if code is not None]
    assert np.all(np.diff(codes) >= 0)


def notices(peer: RealPeer) -> list[str]:
    """Codes of what the server told."""
    return [event.code for event in peer.events if isinstance(event, NoticeEvent)]


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGTERM])
def test_the_end_leaves_nothing_behind(number: signal.Signals) -> None:
    process = ServerProcess()
    children = process.children()
    assert process.stop(number) == 0
    assert [name for name, pid in children.items() if _alive(pid)] == []


def test_ctrl_c_does_not_reach_children_that_are_starting() -> None:
    """They printed the traces of their interrupted imports one into the other."""
    child = _spawn(_Child("errors", "errors", []))  # any module: it is imported, and that is all
    blocked = next(line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if "SigBlk" in line)
    assert int(blocked.split()[1], 16) & 1 << (signal.SIGINT - 1)
    child.communicate()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_children_end_with_a_killed_server() -> None:
    process = ServerProcess()
    children = process.children()
    process.stop(signal.SIGKILL)

    async def gone() -> bool:
        return not any(_alive(pid) for pid in children.values())

    asyncio.run(eventually(gone, timeout_s=10))


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _serve("--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "choose another with --port" in done.stderr


def test_an_avatar_that_is_not_there_is_one_line_and_exit_code_2() -> None:
    done = _serve("--port", "0", "--avatar", "no-such-folder")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot load the avatar" in done.stderr


def test_listening_to_the_world_without_a_token_is_refused() -> None:
    done = _serve("--host", "0.0.0.0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "without --token" in done.stderr


async def eventually(check: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
    """Ask another process again and again until the answer is yes."""
    async with asyncio.timeout(timeout_s):
        while not await check():  # noqa: ASYNC110 - the state is another process's
            await asyncio.sleep(0.05)


def _serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream_server", "serve", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
