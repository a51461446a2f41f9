"""Messages on the data channel `events`: ordered JSON objects, versioned.

Every message is `{"v": 1, "type": ..., ...}`. `tests/data/events.json` holds one example of each and is
read by the Python and the browser tests.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from stream_server.errors import ProtocolError
from stream_server.json_text import read_json

__all__ = [
    "EVENTS_VERSION",
    "ErrorEvent",
    "Event",
    "FinishedEvent",
    "InterruptedEvent",
    "NoticeEvent",
    "PositionEvent",
    "ReadyEvent",
    "SpokenEvent",
    "StartedEvent",
    "TimingEvent",
    "decode",
    "encode",
]

EVENTS_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyEvent:
    """The session is connected. `algorithmic_ms` counts from a frame's own middle."""

    type: ClassVar[str] = "ready"
    session: str
    avatar: str
    size: int
    fps: int
    algorithmic_ms: float
    synthetic: bool = True
    visible_mark: bool = True
    invisible_mark: bool = True
    recorded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingEvent:
    """Where the time of frame `frame` went, from its middle's arrival at the server to its leaving.

    `stages_ms` sums to `total_ms`; `algorithmic_ms` is the part no faster machine could remove. `engine_ms`
    splits the stage `engine`. `fps` is the rate of new frames in the second before.
    """

    type: ClassVar[str] = "timing"
    frame: int
    total_ms: float
    algorithmic_ms: float
    stages_ms: dict[str, float]
    engine_ms: dict[str, float] = field(default_factory=dict)
    fps: float
    repeated: int = 0
    dropped: int = 0
    concealed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionEvent:
    """What is leaving now: frame, and sample at 16 kHz.

    `levels` (only with `--timecode`) are the microphone's loudness in dBFS per 20 ms of the media from
    sample `levels_from` on: with them a client finds when a frame's sound was captured.
    """

    type: ClassVar[str] = "playback.position"
    frame: int
    sample: int
    levels_from: int = 0
    levels: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedEvent:
    """The first sound of an utterance leaves: `sample` is its position in the session, at 16 kHz."""

    type: ClassVar[str] = "playback.started"
    utterance: str
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenEvent:
    """How much of an utterance has left, in milliseconds of its sound and of gaps in it; five times a second."""

    type: ClassVar[str] = "playback.spoken"
    utterance: str
    played_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedEvent:
    """All of an utterance has left."""

    type: ClassVar[str] = "playback.finished"
    utterance: str
    played_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptedEvent:
    """An utterance was cut after `played_ms` of it had left; zero: none of it will be heard."""

    type: ClassVar[str] = "interrupted"
    utterance: str
    played_ms: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEvent:
    """Something changed that the caller may want to know; the session goes on. `code` is stable.

    `utterance`: what was refused was to say this one; it will not be heard.
    """

    type: ClassVar[str] = "notice"
    code: str
    message: str
    utterance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """The session ends, and why. `code` is stable; `message` is for people."""

    type: ClassVar[str] = "error"
    code: str
    message: str
    fatal: bool = True


Event = (
    ReadyEvent
    | TimingEvent
    | PositionEvent
    | StartedEvent
    | SpokenEvent
    | FinishedEvent
    | InterruptedEvent
    | NoticeEvent
    | ErrorEvent
)
_TYPES: dict[str, type[Any]] = {t.type: t for t in get_args(Event)}


def encode(event: Event) -> str:
    """One event as JSON text."""
    return json.dumps({"v": EVENTS_VERSION, "type": event.type} | dataclasses.asdict(event), allow_nan=False)


def decode(text: str) -> Event:
    """The inverse of `encode`.

    Raises:
        ProtocolError: Not JSON, another version, an unknown type, or wrong fields.
    """
    try:
        values = read_json(text)
    except ValueError as error:
        raise ProtocolError(f"event is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ProtocolError(f"event must be an object, got {type(values).__name__}")
    version = values.pop("v", None)
    if version != EVENTS_VERSION:
        raise ProtocolError(f"event version must be {EVENTS_VERSION}, got {version!r}")
    name = values.pop("type", None)
    if not isinstance(name, str) or name not in _TYPES:
        raise ProtocolError(f"unknown event type {name!r}")
    try:
        event: Event = _TYPES[name](**values)
    except TypeError as error:
        raise ProtocolError(f"event {name}: {error}") from error
    return event
