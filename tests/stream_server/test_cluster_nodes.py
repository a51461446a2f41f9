"""`serve --cluster` on two Ray nodes of this machine, with real callers: any ingress serves any session, a killed
node's calls come back by themselves, and workers come and go without ending a call."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

pytest.importorskip("ray", reason="Ray is in the extra cluster: pip install 'nerf-lipsync[cluster]'")

from stream_server.bench.returning import ReturningCaller
from stream_server.bench.voice import Microphone, made_voice
from tests.stream_server.ray_cluster import (
    PATIENT,
    LocalNodes,
    callers_first,
    cluster_server,
    ingresses,
    node_of,
    replica_states,
    until,
    until_ready,
)
from tests.stream_server.server_calls import Assistant, tone
from tests.stream_server.server_process import FAKE, ServerProcess

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore"),  # Ray Serve's own: pydantic's deprecations, sockets it leaves to the system
]

VOICE = made_voice(5.0)
MISSED_S = 8.0
"""Patience of the callers here: on a busy machine a heartbeat may be seconds late without anybody being gone."""


def caller(url: str) -> ReturningCaller:
    return ReturningCaller(url, lambda: Microphone(VOICE), missed_s=MISSED_S)


async def more_frames(callers: list[ReturningCaller], count: int = 25) -> None:
    before = [one.frames for one in callers]
    await until(lambda: all(one.frames >= b + count for one, b in zip(callers, before, strict=True)), 60)


async def close(callers: list[ReturningCaller]) -> None:
    await asyncio.gather(*(one.close() for one in callers))


@pytest.fixture
def nodes() -> Iterator[LocalNodes]:
    with LocalNodes(2, PATIENT) as running:
        yield running


def test_calls_on_two_nodes_and_what_a_dead_node_does_to_them(nodes: LocalNodes) -> None:
    arguments = ("--no-standby", "--size", "128", "--max-sessions", "4", "--min-replicas", "2", "--max-replicas", "2")
    with cluster_server(nodes, *arguments, pipeline=FAKE) as server, callers_first():
        asyncio.run(_any_ingress_serves_any_session(ingresses(server)))
        asyncio.run(_calls_go_where_fewer_are(ingresses(server)))
        asyncio.run(_assistants_and_rooms(ingresses(server)))
        asyncio.run(_a_killed_node(server, nodes))


async def _any_ingress_serves_any_session(urls: list[str]) -> None:
    assert len(urls) == 2
    callers = [caller(urls[number % 2]) for number in range(4)]
    try:
        for one in callers:
            await one.start()
        assert len({node_of(one.session) for one in callers}) == 2
        assert all(set(one.urls) == set(urls) for one in callers)
        await more_frames(callers)
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            for one in callers:
                for url in urls:
                    path = f"{url}/v1/sessions/{one.session}"
                    changed = await http.patch(path, json={"controls": {"yaw_deg": 20.0}})
                    assert changed.status_code == 200, changed.text
                    assert (await http.get(path)).json()["controls"] == {"yaw_deg": 20.0}
            for url in urls:
                await until_ready(url, sessions=4, limit=8)
            assert [one.returns for one in callers] == [[]] * 4
            for number, one in enumerate(callers):
                one.given_up = "ended by the test"  # who is hung up on comes back otherwise, as after any loss
                path = f"{urls[(number + 1) % 2]}/v1/sessions/{one.session}"
                assert (await http.delete(path)).status_code == 204
                assert (await http.get(path)).json()["code"] == "no-such-session"
    finally:
        await close(callers)


async def _calls_go_where_fewer_are(urls: list[str]) -> None:
    """One after the other, by any ingress: two on each node, every time."""
    for turn in range(5):
        await until_ready(urls[0], sessions=0, limit=8)
        callers = [caller(urls[(number + turn) % 2]) for number in range(4)]
        try:
            for one in callers:
                await one.start()
            placed = Counter(node_of(one.session) for one in callers)
            assert sorted(placed.values()) == [2, 2], f"round {turn}"
        finally:
            await close(callers)


async def _assistants_and_rooms(urls: list[str]) -> None:
    """A socket's session may be on another node than its front; two who meet in a room are on one worker."""

    class At:
        url = urls[0]

    await until_ready(urls[0], sessions=0, limit=8)
    assistants = []
    for _ in range(2):
        assistants.append(await Assistant.open(At))
        await assistants[-1].until(lambda: bool(assistants[-1].of("ready")), 60)  # placed: the next one sees it
    homes = [node_of(await _hear_it_speak(assistant)) for assistant in assistants]
    assert len(set(homes)) == 2
    for assistant in assistants:
        await assistant.socket.close()
    first = ReturningCaller(urls[0], lambda: Microphone(VOICE), missed_s=MISSED_S, room="a-room-of-two")
    second = ReturningCaller(urls[1], lambda: Microphone(VOICE), missed_s=MISSED_S, room="a-room-of-two")
    try:
        await first.start()
        await second.start()
        assert node_of(first.session) == node_of(second.session)
    finally:
        await close([first, second])


async def _hear_it_speak(assistant: Assistant) -> str:
    """Its session's id."""
    await assistant.socket.send(tone(0.5))
    await assistant.send(type="end")
    await assistant.until(lambda: "playback.finished" in assistant.kinds(), 40)
    return str(assistant.of("ready")[0]["session"])


async def _a_killed_node(server: ServerProcess, nodes: LocalNodes) -> None:
    head = nodes.node_ids[0]
    await until_ready(server.url, sessions=0, limit=8)
    callers = [caller(server.url) for _ in range(4)]
    try:
        for one in callers:
            await one.start()
        hit = [one for one in callers if node_of(one.session) != head]
        others = [one for one in callers if node_of(one.session) == head]
        assert hit
        assert others
        before = {one: one.session for one in callers}
        await more_frames(callers)
        killed_ns = time.monotonic_ns()
        assert nodes.kill(1) > 5  # raylet, replica, agent, front, engine, worker
        await until(lambda: all(one.returns for one in hit), 90)
        await more_frames(callers)
        assert not any(one.returns for one in others)
        assert [one.session for one in others] == [before[one] for one in others]
        for one in hit:
            assert node_of(one.session) == head
            assert one.session != before[one]
            assert one.returns[0].how == "new session"
            assert one.returns[0].back_ns > killed_ns
    finally:
        await close(callers)


def running() -> int:
    return replica_states().get("RUNNING", 0)


def test_workers_come_and_go_without_ending_a_call(nodes: LocalNodes) -> None:
    """1 -> 2: three calls of four places ask for another worker. 2 -> 1: two calls, one on each, are one worker's load;
    the one that Serve chooses to end waits for its call."""
    arguments = ("--no-standby", "--size", "128", "--max-sessions", "4", "--min-replicas", "1", "--max-replicas", "2")
    delays = ("--upscale-delay", "1", "--downscale-delay", "3")
    with cluster_server(nodes, *arguments, *delays, pipeline=FAKE) as server, nodes.connected(), callers_first():
        asyncio.run(_scale(server.url))


async def _scale(url: str) -> None:
    assert running() == 1
    callers = [caller(url) for _ in range(4)]
    try:
        for one in callers:
            await one.start()
        assert len({node_of(one.session) for one in callers}) == 1
        await until(lambda: running() == 2, 300)
        await more_frames(callers)
        late = [caller(url) for _ in range(2)]
        callers += late
        for one in late:
            await one.start()
        there, new = node_of(callers[0].session), node_of(late[0].session)
        assert there != new
        stay = [callers[0], late[0]]
        returns, sessions = [len(one.returns) for one in stay], [one.session for one in stay]
        await close([one for one in callers if one not in stay])
        await until(lambda: running() == 1, 120)
        assert replica_states().get("STOPPING", 0) == 1
        await more_frames(stay, 100)
        assert [len(one.returns) for one in stay] == returns
        assert [one.session for one in stay] == sessions
        assert replica_states().get("STOPPING", 0) == 1  # it waits for its call
        await close(stay)
        await until(lambda: replica_states() == {"RUNNING": 1}, 120)
        async with ReturningCaller(url, lambda: Microphone(VOICE), missed_s=MISSED_S) as again:
            await more_frames([again])
    finally:
        await close(callers)
