"""A wall clock that is set in mid-call, a model without memory, a reader that does not read, a caller that freezes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import aioice.ice
import numpy as np
import pytest

from stream_server.bench.load import CallerProcess
from stream_server.bench.voice import made_voice, write_voice
from stream_server.events import ErrorEvent
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_calls import Assistant, client, tone
from tests.stream_server.server_process import ServerProcess

SHIM = Path(__file__).resolve().parents[1] / "support" / "step_clock.c"


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()


def errors(peer: RealPeer) -> list[str]:
    return [event.code for event in peer.events if isinstance(event, ErrorEvent)]


@pytest.mark.nightly
def test_a_wall_clock_that_is_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of the server sees the time jump by an hour; pictures go on without a hole, and calls are taken."""
    shim, step = tmp_path / "step_clock.so", tmp_path / "step"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", os.fspath(shim), os.fspath(SHIM), "-ldl"], check=True)
    monkeypatch.setenv("STEP_CLOCK_FILE", os.fspath(step))
    monkeypatch.setenv("LD_PRELOAD", os.fspath(shim))

    async def run(server: ServerProcess) -> None:
        async with RealPeer(server.url) as peer:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 25)
            step.touch()
            seen = len(peer.codes)
            await peer.until(lambda: len(peer.codes) >= seen + 75)
            codes = [code for code in peer.codes[seen - 5 :] if code is not None]
            assert np.diff(codes).max() <= 10  # not even half a second is missing
            assert np.ptp(peer.mouths[seen:]) > 10
            assert errors(peer) == []
            await peer.hang_up()
        async with RealPeer(server.url) as later:
            await later.call()
            await later.until(lambda: len(later.codes) >= 25)
            await later.hang_up()

    with ServerProcess("--timecode", "--size", "128") as server:
        monkeypatch.delenv("LD_PRELOAD")
        for pid in server.children().values():
            assert "step_clock.so" in Path(f"/proc/{pid}/maps").read_text()
        asyncio.run(run(server))


@pytest.mark.nightly
def test_a_model_without_memory_ends_its_calls_and_takes_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = tmp_path / "fail"
    monkeypatch.setenv("FAIL_ONCE_FILE", os.fspath(fail))

    async def run(server: ServerProcess) -> None:
        async with RealPeer(server.url) as peer:
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 25)
            fail.touch()
            await peer.until(lambda: errors(peer) == ["model-failed"])
        async with RealPeer(server.url) as later:
            await later.call()
            await later.until(lambda: len(later.codes) >= 25)
            assert errors(later) == []
            await later.hang_up()

    pipeline = "tests.stream_server.faulty_pipeline:OutOfMemoryPipeline"
    with ServerProcess("--timecode", "--size", "128", pipeline=pipeline) as server:
        engine = server.children()["engine"]
        asyncio.run(run(server))
        assert server.children()["engine"] == engine


@pytest.mark.nightly
def test_an_assistant_that_does_not_read_holds_up_nobody() -> None:
    """For six seconds it takes nothing in; its speech is said all the same, a caller beside it is served, and what it
    reads afterwards ends in the present."""

    async def run(server: ServerProcess) -> None:
        async with RealPeer(server.url) as peer, client(server) as http:
            speaker = await Assistant.open(server, frames="jpeg")
            await speaker.until(lambda: len(speaker.pictures) >= 5)
            await speaker.socket.send(tone(2.0))
            await peer.call()
            await peer.until(lambda: len(peer.codes) >= 125)
            first = speaker.pictures[-1]
            sessions = (await http.get("/readyz")).json()["sessions"]
            assert sessions == 2
            await speaker.until(lambda: speaker.pictures[-1] >= first + 150)
            assert "playback.finished" in speaker.kinds() or "playback.started" in speaker.kinds()
            assert errors(peer) == []
            await speaker.socket.close()
            await peer.hang_up()

    with ServerProcess("--timecode", "--size", "128") as server:
        asyncio.run(run(server))


@pytest.mark.fault
def test_a_caller_that_stood_still_is_served_again(tmp_path: Path) -> None:
    """Its process is stopped for three seconds; then its sound comes as a backlog, and it gets its frame rate again."""
    voice = tmp_path / "voice.wav"
    write_voice(voice, made_voice(10.0))

    async def run(server: ServerProcess) -> None:
        async with CallerProcess(server.url, voice, None) as caller:
            await caller.answer()
            pid = caller.pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(3.0)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(2.0)
            await caller.measure()
            await asyncio.sleep(4.0)
            after = await caller.measure()
            assert len(after["frames_ns"]) >= 0.9 * 100

    with ServerProcess("--timecode", "--size", "128") as server:
        asyncio.run(run(server))
