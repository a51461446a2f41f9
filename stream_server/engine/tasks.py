"""A worker's message as a task for the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_server.engine.batcher import Change, Close, HopTask, Load, Open, Rewind, Task
from stream_server.errors import ProtocolError

__all__ = ["parse"]


def parse(connection: object, body: dict[str, Any], blob: bytes, *, slots: int, hop_samples: int) -> Task:
    """The task that a message asks for.

    Raises:
        ProtocolError: An unknown type, a slot that does not exist, or a hop of another length.
        KeyError, ValueError, TypeError: A field is missing or of another type.
    """
    kind = body["type"]
    if kind == "hop":
        return _hop(connection, body, blob, slots, hop_samples)
    if kind == "load":
        return Load(connection, int(body["request"]), str(body["avatar"]))
    session = str(body["session"])
    if kind == "open":
        return Open(
            connection,
            session,
            int(body["generation"]),
            int(body["seed"]),
            int(body["hop"]),
            str(body["avatar"]),
            dict(body["controls"]),
            bool(body["rewindable"]),
        )
    if kind == "change":
        controls, avatar = body.get("controls"), body.get("avatar")
        return Change(
            connection,
            int(body["request"]),
            session,
            None if controls is None else dict(controls),
            None if avatar is None else str(avatar),
        )
    if kind == "rewind":
        return Rewind(connection, session, int(body["generation"]), int(body["hop"]))
    if kind == "close":
        return Close(connection, session)
    raise ProtocolError(f"unknown message {kind!r}")


def _hop(connection: object, body: dict[str, Any], blob: bytes, slots: int, hop_samples: int) -> HopTask:
    samples = np.frombuffer(blob, np.float32)
    slot = int(body["slot"])
    if len(samples) != hop_samples or not 0 <= slot < slots:
        raise ProtocolError(f"a hop needs {hop_samples} samples and a slot below {slots}, got {len(samples)}, {slot}")
    return HopTask(connection, str(body["session"]), int(body["generation"]), int(body["hop"]), slot, samples)
