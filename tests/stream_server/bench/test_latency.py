"""A call to a real server: figures against delays put there on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import aioice.ice
import numpy as np
import pytest

from model.results import read_results
from stream_server.bench.caller import Caller, is_local
from stream_server.bench.errors import BenchError, RefusedError
from stream_server.bench.latency import CallMeasures, measure_call, talk_and_measure
from stream_server.bench.own_server import OwnServer
from stream_server.bench.udp_relay import Impairment, UdpRelay
from stream_server.bench.voice import Microphone, made_voice
from stream_server.cli import main
from tests.stream_server.server_process import FAKE

DELAY_MS = 150.0


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with OwnServer("--size", "128", "--max-sessions", "1", "--pipeline", FAKE) as process:
        yield process


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)


def call(url: str, *, delay_ms: float, seconds: float = 6.0) -> CallMeasures:
    """Measure through a relay that delays by `delay_ms` each way."""

    async def run() -> CallMeasures:
        relay = UdpRelay()
        await relay.open()
        try:
            relay.impair(Impairment(delay_ms=delay_ms))
            through = {"offer_through": relay.offer, "answer_through": relay.answer}
            async with Caller(url, Microphone(made_voice(11.0)), **through) as caller:
                return await talk_and_measure(caller, seconds)
        finally:
            relay.close()

    return asyncio.run(run())


@pytest.mark.nightly
@pytest.mark.slow
def test_a_delay_of_the_network_is_measured_both_ways(server: OwnServer) -> None:
    near, far = (call(server.url, delay_ms=delay_ms) for delay_ms in (0.0, DELAY_MS))
    added = np.median(far.latency_ms) - np.median(near.latency_ms)
    assert added == pytest.approx(2 * DELAY_MS, abs=100)  # the margin of a busy machine moves
    assert abs(np.median(far.av_offset_ms) - np.median(near.av_offset_ms)) < 10  # both streams are delayed alike
    for measured in (near, far):
        assert abs(np.median(measured.av_offset_ms)) < 40
        assert measured.algorithmic_ms == 140.0
        assert np.median(measured.latency_ms) > 140.0
        assert measured.size == 128
        assert measured.fps == pytest.approx(25, abs=3)
        assert len(measured.traces) >= 3
        for trace in measured.traces:
            assert sum(trace["stages_ms"].values()) == pytest.approx(trace["total_ms"], abs=1e-9)
    outside = [np.median([trace["stages_ms"]["outside"] for trace in one.traces]) for one in (near, far)]
    assert outside[1] - outside[0] == pytest.approx(2 * DELAY_MS, abs=15)


def test_the_command_writes_results(server: OwnServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "call.json"
    assert main(["bench", "latency", "--url", server.url, "--seconds", "4", "--json", str(file)]) == 0
    results = read_results(file)
    figures = results.figures
    own, whole = figures["microphone_to_mouth_own_p50"].value, figures["microphone_to_mouth_p50"].value
    assert whole - own == figures["algorithmic_delay"].value
    assert figures["fps"].value == pytest.approx(25, abs=3)
    assert figures["longest_freeze"].value >= figures["frame_interval_p95"].value
    assert figures["video_bytes_per_s"].value > 1000
    assert results.details["call"]["size"] == 128
    assert "microphone_to_mouth_p50" in capsys.readouterr().out


def test_no_server_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "latency", "--url", "http://127.0.0.1:9", "--seconds", "4"]) == 2
    assert "is a server running there?" in capsys.readouterr().err


def test_a_second_caller_hears_when_to_come_again(server: OwnServer) -> None:
    async def both() -> None:
        voice = made_voice(11.0)
        async with Caller(server.url, Microphone(voice)) as first, Caller(server.url, Microphone(voice)) as second:
            await first.call()
            await first.first_frame()
            with pytest.raises(RefusedError) as refused:
                await second.call()
            assert (refused.value.status, refused.value.retry_after_s) == (503, 5.0)

    asyncio.run(both())


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(BenchError, match="no-such-avatar"):
        OwnServer("--avatar", "no-such-avatar")


def test_nothing_received_is_an_error_and_no_figure() -> None:
    async def run() -> None:
        async with Caller("http://127.0.0.1:9", Microphone(made_voice(11.0))) as caller:
            with pytest.raises(BenchError, match="nothing came back"):
                measure_call(caller)

    asyncio.run(run())


def test_a_server_without_time_code_is_noticed_before_the_measurement() -> None:
    listened: list[float] = []

    class Deaf:
        pictures = SimpleNamespace(frames=[SimpleNamespace(code=None)] * 75)

        async def call(self) -> None: ...

        async def first_frame(self) -> None: ...

        async def listen(self, seconds: float) -> None:
            listened.append(seconds)

    with pytest.raises(BenchError, match="start the server with --timecode"):
        asyncio.run(talk_and_measure(cast(Caller, Deaf()), 60.0))
    assert sum(listened) < 5


def test_which_addresses_are_this_machine() -> None:
    assert all(map(is_local, ["http://localhost:80/x", "https://127.0.0.1", "http://[::1]:8000"]))
    assert not any(map(is_local, ["http://192.168.1.4:80", "http://example.org", "http://127.example.org"]))
