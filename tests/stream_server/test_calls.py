"""Several callers at once on a real server: avatars, controls, rooms, WHIP and WHEP, coming back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aioice.ice
import httpx
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from websockets.exceptions import ConnectionClosed

from stream_server.events import NoticeEvent
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_calls import Assistant, client, tone
from tests.stream_server.server_process import ServerProcess

DARK, BRIGHT = 70, 210


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("avatars")
    for name in (f"dark-{DARK}", f"bright-{BRIGHT}", "broken"):
        (folder / name).mkdir()
        (folder / name / "avatar.json").write_text(json.dumps({"name": name, "licence": "CC0"}))
    arguments = ("--avatars", str(folder), "--timecode", "--max-sessions", "4", "--offers-per-minute", "6000")
    with ServerProcess(*arguments, "--workers", "2", "--size", "128") as process:
        yield process


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()


def together(server: ServerProcess, count: int, talk: Callable[..., Awaitable[None]]) -> None:
    async def run() -> None:
        peers = [RealPeer(server.url) for _ in range(count)]
        try:
            await talk(*peers)
        finally:
            async with client(server) as http:
                for peer in peers:
                    if peer.session:
                        await http.delete(f"/v1/sessions/{peer.session}")
            for peer in peers:
                await peer.close()

    asyncio.run(run())


async def patch(server: ServerProcess, session: str | None, **body: Any) -> httpx.Response:
    async with client(server) as http:
        return await http.patch(f"/v1/sessions/{session}", json=body)


def test_sessions_with_different_avatars_never_mix(server: ServerProcess) -> None:
    async def talk(a: RealPeer, b: RealPeer, c: RealPeer) -> None:
        await a.call(avatar=f"dark-{DARK}", seed=1)
        await b.call(avatar=f"bright-{BRIGHT}", seed=2)
        await c.call(seed=3)
        assert len({a.session[0], b.session[0], c.session[0]} if a.session and b.session and c.session else ()) == 2
        for peer in (a, b, c):
            await peer.until(lambda peer=peer: len(peer.codes) >= 60)
        for peer, skin in ((a, DARK), (b, BRIGHT), (c, 170)):
            assert np.ptp(peer.skins) < 6, "a frame of another session"
            assert abs(np.median(peer.skins) - skin) < 6

    together(server, 3, talk)


def test_an_avatar_is_switched_in_mid_session(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        await peer.call()
        await peer.until(lambda: len(peer.codes) >= 10)
        assert (await patch(server, peer.session, avatar=f"bright-{BRIGHT}")).status_code == 200
        await peer.until(lambda: abs(peer.skins[-1] - BRIGHT) < 6, timeout_s=3)
        seen = len(peer.codes)
        await peer.until(lambda: len(peer.codes) >= seen + 10)
        refused = await patch(server, peer.session, avatar="broken")
        assert (refused.status_code, refused.json()["code"]) == (422, "refused")
        assert "field.safetensors is damaged" in refused.json()["detail"]
        assert (await patch(server, peer.session, avatar="nobody")).status_code == 404
        seen = len(peer.codes)
        await peer.until(lambda: len(peer.codes) >= seen + 10)
        codes = [code for code in peer.codes if code is not None]
        assert np.all(np.diff(codes) >= 0)
        assert codes[-1] - codes[0] <= 1.2 * len(codes) + 5

    together(server, 1, talk)


def test_controls_reach_the_motion_channel(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        motion: list[dict[str, Any]] = []
        channel = peer.connection.createDataChannel("motion", ordered=False, maxRetransmits=0)
        channel.on("message", lambda text: (motion.append(json.loads(text)), peer.changed.set()))
        await peer.call()
        await peer.until(lambda: len(motion) >= 10)
        assert {len(item["arkit"]) for item in motion} == {52}
        assert motion[-1]["head_deg"] == [0.0, 0.0, 0.0]
        answer = await patch(server, peer.session, controls={"yaw_deg": 15, "mood": "smile"})
        assert answer.status_code == 200
        await peer.until(lambda: motion[-1]["head_deg"][0] == 15.0, timeout_s=3)
        peer.say(type="control", controls={"yaw_deg": -5})
        await peer.until(lambda: motion[-1]["head_deg"][0] == -5.0, timeout_s=3)
        async with client(server) as http:
            info = (await http.get(f"/v1/sessions/{peer.session}")).json()
        assert info["controls"] == {"yaw_deg": 15.0, "mood": "smile"} | {"yaw_deg": -5}
        wrong = await patch(server, peer.session, controls={"mood": "hungry"})
        assert (wrong.status_code, "hungry" in wrong.json()["detail"]) == (422, True)

    together(server, 1, talk)


def test_in_a_room_each_sees_and_hears_the_other(server: ServerProcess) -> None:
    async def talk(a: RealPeer, b: RealPeer, c: RealPeer) -> None:
        async with client(server) as http:
            room = (await http.post("/v1/rooms")).json()["room"]
        a.voice.hertz, b.voice.hertz = 300.0, 800.0
        await a.call(avatar=f"dark-{DARK}", room=room)
        await a.until(lambda: len(a.codes) >= 25)
        assert abs(np.median(a.skins) - DARK) < 6
        assert max(a.loudness, default=0.0) < 100  # alone: nobody hears themselves
        await b.call(avatar=f"bright-{BRIGHT}", room=room)
        full = await c.offer(room=room)
        assert (full.status_code, full.json()["code"]) == (409, "conflict")
        for peer in (a, b):
            await peer.until(lambda peer=peer: max(peer.loudness[-50:], default=0) > 1000)
            seen = len(peer.codes), len(peer.loudness)
            await peer.until(lambda peer=peer, seen=seen: len(peer.loudness) >= seen[1] + 100)
        assert abs(np.median(a.skins[-25:]) - BRIGHT) < 6
        assert abs(np.median(b.skins[-25:]) - DARK) < 6
        assert abs(a.heard_hertz() - 800.0) < 25
        assert abs(b.heard_hertz() - 300.0) < 25
        async with client(server) as http:
            await http.delete(f"/v1/sessions/{b.session}")
        b.session = None
        await a.until(lambda: "peer-left" in [e.code for e in a.events if isinstance(e, NoticeEvent)])
        await a.until(lambda: abs(a.skins[-1] - DARK) < 6, timeout_s=5)

    together(server, 3, talk)


def test_a_caller_comes_back_to_the_same_session(server: ServerProcess) -> None:
    async def talk(peer: RealPeer, again: RealPeer) -> None:
        await peer.call(avatar=f"dark-{DARK}", seed=7)
        await peer.until(lambda: len(peer.codes) >= 20)
        assert peer.session is not None
        foreign = await again.offer(path=f"/v1/sessions/{peer.session}/resume", resume_token="wrong")
        assert foreign.status_code == 404
        await again.call(path=f"/v1/sessions/{peer.session}/resume", resume_token=peer.resume_token)
        assert again.session == peer.session
        peer.session = None
        await again.until(lambda: len(again.codes) >= 20)
        codes = [code for code in again.codes if code is not None]
        assert codes[0] > max(code for code in peer.codes if code is not None)
        assert abs(np.median(again.skins) - DARK) < 6

    together(server, 2, talk)


def test_whip_in_and_whep_out(server: ServerProcess) -> None:
    """A standard publisher and two standard players share one avatar's packets."""

    async def talk(publisher: RealPeer, one: RealPeer, two: RealPeer) -> None:
        async with client(server) as http:
            early = await post_sdp(http, "/whep/show", await players_offer(one))
            assert (early.status_code, early.json()["code"]) == (404, "no-such-session")
            published = await post_sdp(http, "/whip/show", await publishers_offer(publisher))
            assert (published.status_code, published.headers["Content-Type"]) == (201, "application/sdp")
            place = published.headers["Location"]
            await take(publisher, published)
            second = await post_sdp(http, "/whip/show", await publishers_offer(two))
            assert (second.status_code, second.json()["code"]) == (409, "conflict")
            for peer in (one, two):
                await take(peer, await post_sdp(http, "/whep/show", await players_offer(peer)))
            for peer in (one, two):
                await peer.until(lambda peer=peer: len(peer.codes) >= 50 and max(peer.loudness, default=0) > 1000)
                assert np.ptp(peer.mouths[25:]) > 5
            both = set(filter(None, one.codes)) & set(filter(None, two.codes))
            assert len(both) > 10
            trickle = await http.patch(place, content=b"a=end-of-candidates")
            assert trickle.status_code == 422
            assert (await http.delete(place)).status_code == 200
            assert (await http.delete(place)).status_code == 404

    together(server, 3, talk)


def test_an_assistant_speaks_to_a_browser(server: ServerProcess) -> None:
    """The browser has the picture, the assistant the voice; both hear what was played."""

    async def talk(peer: RealPeer) -> None:
        peer.voice.muted.set()
        await peer.call(source="speech")
        await peer.until(lambda: len(peer.codes) >= 5)
        assistant = await Assistant.open(server, session=peer.session)
        second = await Assistant.open(server, session=peer.session)
        await second.until(lambda: bool(second.events))
        assert second.events[0]["code"] == "conflict"
        await assistant.send(type="utterance.begin", utterance="u")
        await assistant.socket.send(tone(1.0))
        await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.started")))
        peer.say(type="playback.reported", utterance="u", played_ms=120)
        await assistant.until(lambda: bool(assistant.of("playback.reported")))
        await assistant.until(lambda: bool(assistant.of("playback.finished")))
        await peer.until(lambda: "playback.finished" in [event.type for event in peer.events])
        assert max(peer.loudness) > 1000
        assert np.ptp(peer.mouths) > 5
        async with client(server) as http:
            mine = await http.post(f"/v1/sessions/{peer.session}/interrupt")
            assert mine.json() == {"cut": 0}
        await assistant.socket.close()
        seen = len(peer.codes)
        await peer.until(lambda: len(peer.codes) >= seen + 10)
        third = await Assistant.open(server, session=peer.session)
        await third.until(lambda: bool(third.of("ready")))
        await peer.hang_up()
        with pytest.raises(ConnectionClosed, match="session-ended"):
            await third.until(lambda: False)

    together(server, 1, talk)


def test_a_microphone_cannot_be_interrupted(server: ServerProcess) -> None:
    async def talk(peer: RealPeer) -> None:
        await peer.call()
        async with client(server) as http:
            interrupt = await http.post(f"/v1/sessions/{peer.session}/interrupt")
            speech = await http.post(f"/v1/sessions/{peer.session}/speech", json={"text": "hello"})
        assert (interrupt.status_code, speech.status_code) == (409, 409)
        assert "mute the microphone" in interrupt.json()["detail"]

    together(server, 1, talk)


async def players_offer(peer: RealPeer) -> str:
    """Receive only."""
    await peer.connection.close()
    peer.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("audio", "video"):
        peer.connection.addTransceiver(kind, "recvonly")
    peer.collect_tracks()
    await peer.connection.setLocalDescription(await peer.connection.createOffer())
    return str(peer.connection.localDescription.sdp)


async def publishers_offer(peer: RealPeer) -> str:
    """Sound only, sent only."""
    await peer.connection.close()
    peer.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.connection.addTransceiver(peer.voice, "sendonly")
    await peer.connection.setLocalDescription(await peer.connection.createOffer())
    return str(peer.connection.localDescription.sdp)


async def post_sdp(http: httpx.AsyncClient, path: str, sdp: str) -> httpx.Response:
    return await http.post(path, content=sdp, headers={"Content-Type": "application/sdp"})


async def take(peer: RealPeer, answer: httpx.Response) -> None:
    assert answer.status_code == 201, answer.text
    await peer.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
