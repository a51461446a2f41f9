"""The worker's end of the engine's socket, held to a made-up engine."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import numpy as np

from stream_server.engine import protocol
from stream_server.engine.shared_frames import FrameRing
from stream_server.worker.engine_client import MOTION_COLUMNS, EngineClient, HopResult, StreamPort

AVATAR = {"id": "default", "name": "default", "size": 128, "hop_frames": 2}


def test_a_shared_step_counts_for_each_session_with_its_own_part(tmp_path: Path) -> None:
    """Four sessions in a step of 80 ms: 20 ms each. Admission must not take the step for one session's cost."""
    ring = FrameRing.create(slots=4, frames_per_slot=2, size=128)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "engine.sock"))
    listener.listen()

    async def run() -> tuple[float, list[HopResult]]:
        client, results = EngineClient(tmp_path / "engine.sock"), list[HopResult]()
        answered = asyncio.Event()

        def take(result: HopResult) -> None:
            results.append(result)
            answered.set()

        client.start()
        engine, _ = await asyncio.to_thread(listener.accept)
        hello = {"type": "hello", "version": protocol.PROTOCOL_VERSION, "epoch": "e", "slots": 4, "avatar": AVATAR}
        protocol.send_with_descriptor(engine, protocol.pack(hello), ring.descriptor)
        client.attach("s", StreamPort(take, lambda *_: None, lambda: None, lambda: None))
        body = {"type": "frames", "session": "s", "generation": 0, "hop": 1, "slot": 0, "first_frame": 0, "count": 1}
        body |= {"offset": 0, "last": True}
        stamps = {"started_ns": 0, "finished_ns": 80_000_000, "engine_ms": {"sampler": 8.0, "render": 12.0}}
        engine.sendall(protocol.pack(body | stamps, np.zeros((1, MOTION_COLUMNS), np.float32).tobytes()))
        async with asyncio.timeout(5):
            await answered.wait()
        busy_ms = client.busy_ms_per_hop
        await client.close()
        engine.close()
        return busy_ms, results

    try:
        busy_ms, results = asyncio.run(run())
    finally:
        listener.close()
        ring.close()
    assert busy_ms == 20.0
    assert results[0].finished_ns - results[0].started_ns == 80_000_000
