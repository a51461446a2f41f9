"""Engine and worker over a real socket pair: framing, the ring's descriptor, limits."""

from __future__ import annotations

import asyncio
import os
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.engine import protocol
from stream_server.engine.shared_frames import FrameRing
from stream_server.errors import EngineLostError, ProtocolError


@given(st.dictionaries(st.text(max_size=8), st.integers()), st.binary(max_size=2000), st.integers(1, 64))
def test_any_cut_of_the_stream_gives_the_same_messages(values: dict[str, int], blob: bytes, cut: int) -> None:
    body = values | {"type": "hop"}
    data = protocol.pack(body, blob) * 2

    async def read() -> list[protocol.Message]:
        reader = asyncio.StreamReader()
        for start in range(0, len(data), cut):
            reader.feed_data(data[start : start + cut])
        reader.feed_eof()
        return [await protocol.read_message(reader) for _ in range(2)]

    assert asyncio.run(read()) == [(body, blob)] * 2


def test_the_ring_crosses_with_the_hello() -> None:
    ring = FrameRing.create(slots=2, frames_per_slot=2, size=128)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        hello = protocol.pack({"type": "hello", "version": protocol.PROTOCOL_VERSION})
        protocol.send_with_descriptor(ours, hello, ring.descriptor)
        body, descriptor = protocol.receive_hello(theirs)
    assert body["type"] == "hello"
    mapped = FrameRing(descriptor, slots=2, frames_per_slot=2, size=128)
    frames = np.random.default_rng(0).integers(0, 255, (2, 192, 128), dtype=np.uint8)
    ring.write(1, frames)
    np.testing.assert_array_equal(mapped.read(1, 2), frames)
    copy = mapped.read(1, 1)
    ring.write(1, np.zeros_like(frames))
    np.testing.assert_array_equal(copy[0], frames[0])  # a copy: the slot may be lent again
    mapped.close()
    ring.close()


def test_a_ring_of_another_shape_is_refused() -> None:
    ring = FrameRing.create(slots=2, frames_per_slot=2, size=128)
    with pytest.raises(ValueError, match="expected"):
        FrameRing(ring.descriptor, slots=3, frames_per_slot=2, size=128)
    ring.close()


@pytest.mark.parametrize(
    "data", [b"\xff" * 8, protocol._HEADER.pack(4, 0) + b"oops", protocol._HEADER.pack(2, 0) + b"[]"]
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        ours.sendall(data)
        with pytest.raises(ProtocolError):
            protocol.receive_message(theirs)


def test_the_end_of_the_stream_is_a_lost_engine() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EngineLostError):
            protocol.receive_message(theirs)


def test_a_hello_that_is_refused_leaves_no_descriptor() -> None:
    """A worker tries ten times a second."""
    ring = FrameRing.create(slots=1, frames_per_slot=1, size=128)
    hello = protocol.pack({"type": "hello", "version": protocol.PROTOCOL_VERSION + 1})
    for data, error in ((hello, ProtocolError), (hello[:12], EngineLostError)):
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.settimeout(5)
            protocol.send_with_descriptor(ours, data, ring.descriptor)
            ours.close()
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(error):
                protocol.receive_hello(theirs)
            assert len(os.listdir("/proc/self/fd")) == before
    ring.close()
