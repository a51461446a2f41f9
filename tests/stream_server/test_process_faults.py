"""Processes that stop, hang or die in mid-call, a hundred callers at once, and sessions that leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aioice.ice
import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from stream_server.events import ErrorEvent, NoticeEvent
from stream_server.worker.tidying import MOST_LEFT
from tests.stream_server.patience import PATIENCE
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_calls import Assistant, client
from tests.stream_server.server_process import ServerProcess

MB = 1 << 20
SESSION_LEAVES = 1.2 * MB
log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--timecode", "--size", "128", "--offers-per-minute", "10000") as process:
        yield process


def notices(peer: RealPeer) -> list[str]:
    return [event.code for event in peer.events if isinstance(event, NoticeEvent)]


def fatal(peer: RealPeer) -> list[str]:
    return [event.code for event in peer.events if isinstance(event, ErrorEvent)]


async def hang_up(server: ServerProcess, peer: RealPeer) -> None:
    async with client(server) as http:
        await http.delete(f"/v1/sessions/{peer.session}")


@pytest.mark.nightly
def test_a_call_goes_on_while_the_engine_pauses(server: ServerProcess) -> None:
    """Two seconds without the model: the last picture stays, time and sound go on, and then the face moves again."""

    async def run() -> None:
        async with RealPeer(server.url) as peer:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 25)
            engine = server.children()["engine"]
            seen, started_s = len(peer.codes), time.monotonic()
            os.kill(engine, signal.SIGSTOP)
            try:
                await peer.until(lambda: time.monotonic() - started_s > 2.0)
            finally:
                os.kill(engine, signal.SIGCONT)
            paused = len(peer.codes)
            heard = len(peer.loudness)
            await peer.until(lambda: len(peer.codes) >= paused + 100)
            assert paused - seen >= 40  # pictures kept coming
            assert np.ptp(peer.mouths[paused - 20 : paused - 5]) < 2  # the last one
            assert np.ptp(peer.mouths[paused + 50 :]) > 10
            assert max(peer.loudness[heard - 50 : heard]) > 1000
            assert server.children()["engine"] == engine
            assert (notices(peer), fatal(peer)) == ([], [])
            await hang_up(server, peer)

    asyncio.run(run())


@pytest.mark.nightly
def test_an_engine_that_hangs_is_replaced_and_the_call_goes_on(server: ServerProcess) -> None:
    async def run() -> tuple[float, int, int]:
        async with RealPeer(server.url) as peer:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 25)
            engine = server.children()["engine"]
            os.kill(engine, signal.SIGSTOP)
            hung_s = time.monotonic()
            await peer.until(lambda: "engine-lost" in notices(peer), timeout_s=20)
            noticed_s = time.monotonic() - hung_s
            await peer.until(lambda: "engine-back" in notices(peer), timeout_s=40)
            seen = len(peer.codes)
            await peer.until(lambda: len(peer.codes) >= seen + 75)
            assert np.ptp(peer.mouths[seen + 25 :]) > 10
            assert fatal(peer) == []
            await hang_up(server, peer)
            return noticed_s, engine, server.children()["engine"]

    noticed_s, before, after = asyncio.run(run())
    assert 4.0 < noticed_s < 12.0
    assert before != after


def test_a_worker_that_dies_is_replaced_and_its_callers_learn_it(server: ServerProcess) -> None:
    """The socket closes; a resume is refused with 404, so that a page knows to call anew; and a new call works."""

    async def run() -> None:
        async with RealPeer(server.url) as peer, client(server) as http:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 5)
            speaker = await Assistant.open(server)
            await speaker.until(lambda: bool(speaker.of("ready")))
            worker = server.children()["worker"]
            os.kill(worker, signal.SIGKILL)
            with pytest.raises(ConnectionClosed) as closed:
                await speaker.until(lambda: False)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            async with asyncio.timeout(20):
                while (await http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.1)
            async with RealPeer(server.url) as again:
                path = f"/v1/sessions/{peer.session}/resume"
                refused = await again.offer(path, resume_token=peer.resume_token)
                assert (refused.status_code, refused.json()["code"]) == (404, "no-such-session")
            async with RealPeer(server.url) as new:
                await new.call()
                await new.until(lambda: len(new.codes) >= 10)
                await hang_up(server, new)
            assert server.children()["worker"] != worker

    asyncio.run(run())


def test_a_hundred_who_connect_at_once_are_all_answered(server: ServerProcess) -> None:
    """Beside a call that goes on: as many as there are places come in, the others are told to come again."""

    async def one(http: httpx.AsyncClient, sdp: str) -> httpx.Response:
        return await http.post("/v1/sessions", json={"sdp": sdp})

    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=100)
        async with RealPeer(server.url) as peer, client(server, limits=limits) as http, RealPeer(server.url) as other:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 10)
            await other.connection.setLocalDescription(await other.connection.createOffer())
            sdp = other.connection.localDescription.sdp
            answers = await asyncio.gather(*(one(http, sdp) for _ in range(100)))
            for answer in answers:
                if answer.status_code == 201:
                    await http.delete(answer.headers["Location"])
            seen = len(peer.codes)
            await peer.until(lambda: len(peer.codes) >= seen + 25)
            assert fatal(peer) == []
            await hang_up(server, peer)
            return answers

    answers = asyncio.run(run())
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {201, 503}
    assert 1 <= counts[201] <= 12
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "busy"
            assert int(answer.headers["Retry-After"]) >= 1


def usage(server: ServerProcess) -> dict[str, tuple[int, int]]:
    """Resident bytes and open descriptors of each process."""
    found = {}
    for role, pid in server.children().items():
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found[role] = (pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd")))
    return found


async def calls(server: ServerProcess, count: int, beside: int = 0) -> None:
    """One after the other: connect, see pictures, hang up; every fourth is an assistant with pictures.

    Returns when no more than `beside` sessions are left.
    """
    for number in range(count):
        if number % 4 == 3:
            speaker = await Assistant.open(server, frames="jpeg")
            await speaker.until(lambda s=speaker: len(s.pictures) >= 3)  # type: ignore[misc]
            await speaker.socket.close()
            continue
        async with RealPeer(server.url) as peer:
            await peer.call()
            await peer.until(lambda p=peer: len(p.codes) >= 3)  # type: ignore[misc]
            await hang_up(server, peer)
    async with client(server) as http, asyncio.timeout(10 * PATIENCE):
        while (await http.get("/readyz")).json()["sessions"] > beside:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.1)


async def grown(server: ServerProcess, first: int, then: int, *, allowed: float = 0, beside: int = 0) -> list[str]:
    """What grew from the first calls to the end, in words: descriptors by any, memory by 2 % and `allowed` bytes.

    What the last calls leave is collected a second after them.
    """
    await calls(server, first, beside)
    before = usage(server)
    await calls(server, then, beside)
    found = what_grew(before, usage(server), allowed)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5 * PATIENCE):  # a connection of the last call may be closing
            while found:
                await asyncio.sleep(0.1)
                found = what_grew(before, usage(server), allowed)
    log.info("bytes and descriptors: %s, then %s", before, usage(server))
    return found


def what_grew(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], allowed: float) -> list[str]:
    """`grown`'s findings."""
    found = []
    for role, (memory, descriptors) in before.items():
        more = after[role][0] - memory
        if more > 0.02 * memory + allowed:
            found.append(f"{role}: {more / MB:.1f} MB more than {memory / MB:.1f}")
        if after[role][1] > descriptors:
            found.append(f"{role}: {after[role][1]} descriptors, {descriptors} before")
    return found


@pytest.mark.slow
def test_sessions_leave_no_descriptor_and_no_session_sized_memory(server: ServerProcess) -> None:
    """An encoder or a feed that stayed would be a megabyte for each session; a new worker's heap still settles."""
    assert asyncio.run(grown(server, 6, 6, allowed=6 * SESSION_LEAVES / 3)) == []


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_two_hundred_sessions_leave_nothing(server: ServerProcess) -> None:
    assert asyncio.run(grown(server, 20, 180)) == []


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_calls_beside_one_that_goes_on_leave_nothing(server: ServerProcess) -> None:
    """The worker is never idle: what the others leave is collected all the same."""

    async def run() -> list[str]:
        async with RealPeer(server.url) as peer:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 10)
            # what a few ended sessions leave may wait to be collected
            found = await grown(server, 20, 40, allowed=MOST_LEFT * SESSION_LEAVES, beside=1)
            assert fatal(peer) == []
            await hang_up(server, peer)
            return found

    assert asyncio.run(run()) == []
