"""Messages between engine and media worker, over a Unix stream socket.

A message is `>II` (length of the JSON, length of the blob), then UTF-8 JSON with a `type`, then raw bytes.

worker -> engine
    load    {request, avatar}                                     answered when the avatar is in memory
    open    {session, generation, seed, hop, avatar, controls, rewindable}   a new stream that begins with this hop
    change  {request, session, controls?, avatar?}                from the next hop on; the avatar must be loaded
    hop     {session, generation, hop, slot} + float32 samples    the slot is the engine's until its last answer
    rewind  {session, generation, hop}                            back to before that hop, under a new generation
    close   {session}
    ping    {request}                                             answered by the thread that reads
engine -> worker
    hello   {version, epoch, slots, avatar: {...}}                first; carries the ring's descriptor
    frames  {session, generation, hop, slot, first_frame, offset, count, last, started_ns, finished_ns, engine_ms}
            + float32 (count, 55): 52 ARKit coefficients, then yaw, pitch, roll of the head in degrees
            part of a hop's answer: `count` frames from place `offset` of the slot; the slot is the worker's again
            with the `last`, and `engine_ms` is what the hop has cost so far;
            count 0 and no engine_ms: the hop was passed over while the stream's avatar was loaded
    failed  {session, generation, slot?, message}                 this stream ended in an error
    done    {request, ...}  ·  refused {request, message}
Hops and frames are counted from the session's beginning, whatever the generation.
Stamps are CLOCK_MONOTONIC, which the processes of one host share.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import struct
from typing import Any

from stream_server.errors import EngineLostError, ProtocolError
from stream_server.json_text import read_json

__all__ = ["Message", "pack", "read_message", "receive_hello", "receive_message", "send_with_descriptor"]

PROTOCOL_VERSION = 3
_HEADER = struct.Struct(">II")
_MAX_JSON = 1 << 20
_MAX_BLOB = 1 << 22

Message = tuple[dict[str, Any], bytes]


def pack(body: dict[str, Any], blob: bytes = b"") -> bytes:
    """One message as bytes."""
    text = json.dumps(body).encode()
    if len(text) > _MAX_JSON or len(blob) > _MAX_BLOB:
        raise ProtocolError(f"message too large: {len(text)} + {len(blob)} bytes")
    return _HEADER.pack(len(text), len(blob)) + text + blob


def send_with_descriptor(connection: socket.socket, data: bytes, descriptor: int) -> None:
    """Send a message whose first bytes carry a file descriptor."""
    rights = array.array("i", [descriptor]).tobytes()
    sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    connection.sendall(data[sent:])


def receive_hello(connection: socket.socket) -> tuple[dict[str, Any], int]:
    """Read the first message and the descriptor that comes with it (blocking socket with a timeout)."""
    header, descriptors, _flags, _address = socket.recv_fds(connection, _HEADER.size, 1)
    try:
        if not header:
            raise EngineLostError("the engine closed the connection")
        header += _receive_exactly(connection, _HEADER.size - len(header))
        body, _blob = _receive_body(connection, header)
        if body.get("type") != "hello" or body.get("version") != PROTOCOL_VERSION or not descriptors:
            raise ProtocolError(f"expected hello of version {PROTOCOL_VERSION}, got {body!r}")
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return body, descriptors[0]


def receive_message(connection: socket.socket) -> Message:
    """Read one message (blocking). Raises EngineLostError at the end of the stream."""
    return _receive_body(connection, _receive_exactly(connection, _HEADER.size))


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Read one message. Raises EngineLostError at the end of the stream."""
    try:
        json_length, blob_length = _lengths(await reader.readexactly(_HEADER.size))
        body = _parse(await reader.readexactly(json_length))
        return body, await reader.readexactly(blob_length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EngineLostError("the other side closed the connection") from error


def _receive_body(connection: socket.socket, header: bytes) -> Message:
    json_length, blob_length = _lengths(header)
    body = _parse(_receive_exactly(connection, json_length))
    return body, _receive_exactly(connection, blob_length)


def _lengths(header: bytes) -> tuple[int, int]:
    json_length, blob_length = _HEADER.unpack(header)
    if json_length > _MAX_JSON or blob_length > _MAX_BLOB:
        raise ProtocolError(f"message too large: {json_length} + {blob_length} bytes")
    return json_length, blob_length


def _parse(text: bytes) -> dict[str, Any]:
    try:
        body = read_json(text)
    except ValueError as error:
        raise ProtocolError(f"message is not JSON: {error}") from error
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise ProtocolError("message must be an object with a type")
    return body


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EngineLostError("the other side closed the connection")
        data += part
    return bytes(data)
