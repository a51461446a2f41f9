"""An engine that took a dead one's place loads the avatars of its sessions while the others go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aioice.ice
import numpy as np
import pytest

from model.radiance import background_files
from stream_server.engine import protocol
from stream_server.engine.avatar_shelf import AvatarShelf
from stream_server.engine.controls import ControlsMaker
from stream_server.engine.loading import Loaded
from stream_server.engine.process import Engine
from stream_server.engine.shared_frames import FrameRing
from stream_server.events import ErrorEvent, NoticeEvent
from tests.stream_server.fake_pipeline import FakePipeline, Shown
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_process import START_S, ServerProcess

GATED = "gated-210"
HOP = bytes(4 * 1280)


class Worker:
    """A media worker's end of the socket, without a loop."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        hello, descriptor = protocol.receive_hello(self.sock)
        self.ring = FrameRing(descriptor, slots=hello["slots"], frames_per_slot=2, size=128)
        self.yaw_deg = 0.0

    def send(self, kind: str, blob: bytes = b"", **values: Any) -> None:
        self.sock.sendall(protocol.pack({"type": kind} | values, blob))

    def ask(self, kind: str, blob: bytes = b"", **values: Any) -> dict[str, Any]:
        self.send(kind, blob, **values)
        body, motion = protocol.receive_message(self.sock)
        if motion:
            self.yaw_deg = float(np.frombuffer(motion, np.float32)[-3])
        return body

    def open(self, session: str, avatar: str, hop: int = 0) -> None:
        fixed = {"generation": 0, "seed": 1, "controls": {}, "rewindable": True}
        self.send("open", session=session, avatar=avatar, hop=hop, **fixed)

    def hop(self, session: str, hop: int, generation: int = 0) -> tuple[str, int, int]:
        """What came back: its type, its first frame and how many there are."""
        answer = self.ask("hop", HOP, session=session, generation=generation, hop=hop, slot=0)
        return answer["type"], answer.get("first_frame", -1), answer.get("count", -1)

    def skin(self) -> int:
        """Brightness of the face in the frames that came last."""
        return int(np.median(self.ring.read(0, 1)[0, 40:60, 40:80]))


class Gated:
    """Loads an avatar when told to."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.problem = ""

    def __call__(self, name: str) -> Shown:
        assert self.gate.wait(10)
        if self.problem:
            raise ValueError(self.problem)
        return Shown(name, skin=90)


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def worker(tmp_path: Path, gated: Gated) -> Iterator[Worker]:
    pipeline = FakePipeline(128)
    shelf = AvatarShelf("first", pipeline.shown, gated, limit_bytes=1 << 20)
    controls = ControlsMaker({"room": Path("room.png"), "broken": Path("broken.png")})
    engine = Engine(Loaded(pipeline, shelf, controls, 25.0, 10.0), tmp_path / "engine.sock")
    thread = threading.Thread(target=engine.serve, daemon=True)
    thread.start()
    worker = Worker(tmp_path / "engine.sock")
    yield worker
    worker.sock.close()
    worker.ring.close()
    engine.stop()
    thread.join(10)
    assert not thread.is_alive()


def wait_until_it_begins(worker: Worker, hop: int, generation: int = 0) -> int:
    """Feed `second` until frames come; the hop they came with."""
    for index in range(hop, hop + 10_000):
        kind, first, count = worker.hop("second", index, generation)
        assert kind == "frames"
        if count:
            assert first == 2 * index - 2
            return index
    raise AssertionError("no frame came")


def test_hops_are_passed_over_while_an_avatar_is_loaded_and_others_go_on(worker: Worker, gated: Gated) -> None:
    worker.open("first", "first")
    worker.open("second", "slow", hop=40)
    for hop in range(3):
        assert worker.hop("second", 40 + hop) == ("frames", 0, 0)
        assert worker.hop("first", hop)[2] == (2 if hop else 0)
    gated.gate.set()
    wait_until_it_begins(worker, 43)
    assert worker.skin() == 90


def test_a_stream_can_be_rewound_to_where_its_avatar_was_loaded(worker: Worker, gated: Gated) -> None:
    worker.open("second", "slow", hop=5)
    assert worker.hop("second", 5) == ("frames", 0, 0)
    assert worker.hop("second", 6) == ("frames", 0, 0)
    worker.send("rewind", session="second", generation=1, hop=6)
    assert worker.hop("second", 6, generation=0)[0] == "failed"  # of the old generation
    assert worker.hop("second", 6, generation=1) == ("frames", 0, 0)
    gated.gate.set()
    wait_until_it_begins(worker, 7, generation=1)
    worker.send("rewind", session="second", generation=2, hop=5)
    assert worker.hop("second", 5, generation=2) == ("frames", 8, 0)
    assert worker.hop("second", 6, generation=2) == ("frames", 10, 2)


def test_what_is_changed_meanwhile_holds_when_it_begins(worker: Worker, gated: Gated) -> None:
    worker.open("second", "slow")
    assert worker.ask("change", request=1, session="second", controls={"yaw_deg": 7.0})["type"] == "done"
    assert worker.ask("change", request=2, session="second", avatar="first")["type"] == "done"
    gated.gate.set()
    wait_until_it_begins(worker, 0)
    assert (worker.yaw_deg, worker.skin()) == (7.0, 170)


def test_a_session_that_was_closed_meanwhile_does_not_begin(worker: Worker, gated: Gated) -> None:
    worker.open("second", "slow")
    worker.send("close", session="second")
    worker.open("third", "slow")
    gated.gate.set()
    while worker.hop("third", 0) != ("frames", 0, 0):
        pass
    assert worker.hop("second", 0)[0] == "failed"


def test_a_background_is_read_beside_the_computing(
    worker: Worker, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: Path) -> np.ndarray[Any, Any]:
        assert gated.gate.wait(10)
        if file.stem == "broken":
            raise ValueError("broken.png is no picture")
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(background_files, "read_picture", read)
    worker.open("first", "first")
    for request, name in ((1, "room"), (2, "broken")):
        worker.send("change", request=request, session="first", controls={"background": name, "yaw_deg": 3.0})
    for hop in range(3):
        assert worker.hop("first", hop)[0] == "frames"
    assert worker.yaw_deg == 0.0
    gated.gate.set()
    first, second = (protocol.receive_message(worker.sock)[0] for _ in range(2))
    answers = {body["request"]: (body["type"], body.get("message", "")) for body in (first, second)}
    assert answers == {1: ("done", ""), 2: ("refused", "broken.png is no picture")}
    worker.hop("first", 3)
    assert worker.yaw_deg == 3.0


def test_an_avatar_that_cannot_be_loaded_ends_its_session_only(worker: Worker, gated: Gated) -> None:
    gated.problem = "field.safetensors is damaged"
    worker.open("first", "first")
    worker.open("second", "slow")
    gated.gate.set()
    body, _blob = protocol.receive_message(worker.sock)
    assert (body["type"], body["session"], body["message"]) == ("failed", "second", gated.problem)
    assert worker.hop("first", 0)[0] == "frames"


def test_a_call_goes_on_while_another_ones_avatar_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is killed; the next one holds the first avatar, and the other's loading is held up."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()
    (tmp_path / "avatars" / GATED).mkdir(parents=True)
    (tmp_path / "avatars" / GATED / "avatar.json").write_text(json.dumps({"name": GATED, "licence": "CC0"}))
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    monkeypatch.setenv("LOAD_GATE", str(gate))

    async def open_gate() -> None:
        async with asyncio.timeout(20):
            await asyncio.to_thread(gate.write_bytes, b"")  # returns when someone reads

    def notices(peer: RealPeer) -> list[str]:
        return [event.code for event in peer.events if isinstance(event, NoticeEvent | ErrorEvent)]

    async def run(server: ServerProcess) -> None:
        async with asyncio.timeout(START_S):
            while not server.standby_is_ready():  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.1)
        async with RealPeer(server.url) as first, RealPeer(server.url) as second:
            await first.call()
            await asyncio.gather(second.call(avatar=GATED), open_gate())
            for peer in (first, second):
                await peer.until(lambda peer=peer: len(peer.codes) >= 10)  # type: ignore[misc]
            os.kill(server.children()["engine"], signal.SIGKILL)
            for peer in (first, second):
                await peer.until(lambda peer=peer: "engine-back" in notices(peer), timeout_s=30)  # type: ignore[misc]
            seen = len(first.codes), len(second.codes)
            await first.until(lambda: len(first.codes) >= seen[0] + 75)
            assert np.ptp(first.mouths[seen[0] + 25 :]) > 10
            assert np.ptp(second.mouths[seen[1] + 25 :]) < 2  # the last picture
            await open_gate()
            await second.until(lambda: np.ptp(second.mouths[-15:]) > 10, timeout_s=10)
            assert abs(second.skins[-1] - 210) < 6
            for peer in (first, second):
                assert notices(peer) == ["engine-lost", "engine-back"]
                await peer.hang_up()

    arguments = (
        "--timecode",
        "--max-sessions",
        "2",
        "--size",
        "128",
        "--avatars",
        str(tmp_path / "avatars"),
        "--standby",
    )
    with ServerProcess(*arguments, pipeline="tests.stream_server.fake_pipeline:GatedPipeline") as server:
        asyncio.run(run(server))
