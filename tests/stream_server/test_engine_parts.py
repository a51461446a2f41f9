"""The engine hands frames on as they are made; what is left of a step that fails is refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream_server.engine import protocol
from stream_server.engine.loading import Loaded
from stream_server.engine.process import Engine
from stream_server.engine.shared_frames import FrameRing
from tests.stream_server.fake_pipeline import FakePipeline

SIZE_PX = 64
STAGES = {"render": 1.0}


class OneByOne(FakePipeline):
    """Yields first frames, then waits until it is told to go on; `fails` breaks there instead."""

    go_on = threading.Event()
    fails = False

    def step_in_parts(
        self, audio: Any, controls: Sequence[Any], states: Sequence[Any]
    ) -> Iterator[tuple[int, Any, bool]]:
        whole = self.step(audio, controls, states)
        for place in range(2):
            for row, hop in enumerate(whole):
                part = SimpleNamespace(
                    first_frame=hop.first_frame + place,
                    frames=np.full((1, SIZE_PX * 3 // 2, SIZE_PX), 10 * row + place, np.uint8),
                    motion=np.zeros((1, 32), np.float32),
                    head_deg=None,
                    stage_ms=STAGES,
                )
                if self.fails and (row, place) == (1, 1):
                    raise ArithmeticError("no second frame")
                yield row, part, place == 1
            if place == 0 and not self.go_on.wait(10):
                raise TimeoutError("nobody took the first frames")


class NoControls:
    """As `ControlsMaker`."""

    def __call__(self, values: Any) -> None:
        if values.get("breaks"):
            raise LookupError("nobody thought of this")

    def reads_file(self, _: Any) -> bool:
        return False


@contextmanager
def engine_with(pipeline: OneByOne, folder: Path) -> Iterator[tuple[socket.socket, FrameRing]]:
    shelf = SimpleNamespace(require=lambda _: pipeline.shown, get=lambda _: pipeline.shown, first_id="default")
    loaded = Loaded(pipeline, shelf, NoControls(), 25.0, 1.0, batch_wait_s=0.5)  # type: ignore[arg-type]
    engine = Engine(loaded, folder / "engine.sock")
    threads = [
        threading.Thread(target=engine._accept, daemon=True),
        threading.Thread(target=compute, args=(engine,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(folder / "engine.sock"))
    hello, descriptor = protocol.receive_hello(sock)
    ring = FrameRing(descriptor, slots=hello["slots"], frames_per_slot=2, size=SIZE_PX)
    try:
        yield sock, ring
    finally:
        engine._inbox.put(None)
        threads[1].join(10)
        sock.close()
        ring.close()


def compute(engine: Engine) -> None:
    while (tasks := engine._inbox.take(2, 0.5)) is not None:
        engine._do(tasks)


def ask(sock: socket.socket, pipeline: OneByOne, sessions: Sequence[str], hop: int) -> None:
    samples = np.full(pipeline.spec.hop_samples, 0.1, np.float32).tobytes()
    for slot, session in enumerate(sessions):
        body = {"type": "hop", "session": session, "generation": 0, "hop": hop, "slot": slot}
        sock.sendall(protocol.pack(body, samples))


def opened(sock: socket.socket, sessions: Sequence[str], hop: int) -> None:
    for session in sessions:
        body = {"type": "open", "session": session, "generation": 0, "seed": 1, "hop": hop, "avatar": "default"}
        sock.sendall(protocol.pack(body | {"controls": {}, "rewindable": False}))


@pytest.fixture
def pipeline() -> OneByOne:
    made = OneByOne.load(None, size=SIZE_PX, steps=1)
    assert isinstance(made, OneByOne)
    made.go_on = threading.Event()
    return made


def test_first_frames_are_there_while_second_ones_are_being_made(pipeline: OneByOne, tmp_path: Path) -> None:
    with engine_with(pipeline, tmp_path) as (sock, ring):
        opened(sock, ("a", "b"), 5)
        ask(sock, pipeline, ("a", "b"), 5)
        first = [protocol.receive_message(sock)[0] for _ in range(2)]  # the pipeline waits for us now
        assert [(m["session"], m["offset"], m["count"], m["last"]) for m in first] == [
            ("a", 0, 1, False),
            ("b", 0, 1, False),
        ]
        assert [ring.read(m["slot"], 1)[0, 0, 0] for m in first] == [0, 10]
        pipeline.go_on.set()
        second = [protocol.receive_message(sock)[0] for _ in range(2)]
    assert [(m["session"], m["offset"], m["last"]) for m in second] == [("a", 1, True), ("b", 1, True)]
    assert [m["first_frame"] for m in second] == [m["first_frame"] + 1 for m in first]
    assert all(later["finished_ns"] > earlier["finished_ns"] for earlier, later in zip(first, second, strict=True))


def test_a_step_that_breaks_between_frames_ends_only_who_lacks_one(pipeline: OneByOne, tmp_path: Path) -> None:
    pipeline.fails = True
    pipeline.go_on.set()
    with engine_with(pipeline, tmp_path) as (sock, _ring):
        opened(sock, ("a", "b"), 5)
        ask(sock, pipeline, ("a", "b"), 5)
        answers = [protocol.receive_message(sock)[0] for _ in range(4)]
        assert [(m["type"], m["session"]) for m in answers] == [
            ("frames", "a"),
            ("frames", "b"),
            ("frames", "a"),
            ("failed", "b"),
        ]
        assert answers[3]["slot"] == 1 and "no second frame" in answers[3]["message"]
        pipeline.fails = False
        ask(sock, pipeline, ("a",), 6)
        assert [protocol.receive_message(sock)[0]["last"] for _ in range(2)] == [False, True]


def test_a_change_that_nobody_thought_of_is_refused_and_the_engine_goes_on(pipeline: OneByOne, tmp_path: Path) -> None:
    pipeline.go_on.set()
    with engine_with(pipeline, tmp_path) as (sock, _ring):
        opened(sock, ("a", "b"), 5)
        change = {"type": "change", "request": 1, "session": "a", "controls": {"breaks": True}, "avatar": None}
        sock.sendall(protocol.pack(change))
        answer = protocol.receive_message(sock)[0]
        assert answer == {"type": "refused", "request": 1, "message": "nobody thought of this"}
        ask(sock, pipeline, ("a", "b"), 5)
        assert [protocol.receive_message(sock)[0]["type"] for _ in range(4)] == ["frames"] * 4
