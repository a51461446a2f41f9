"""Errors of the server, one family.

StreamServerError
    ServerConfigError   a setting is impossible; the command line prints it and exits 2
    ProtocolError       a message between processes, or from a peer, breaks its format
    EngineLostError     the engine process ended or cannot be reached
    ServerBusyError     all places are taken; carries the seconds after which to try again
    OfferError          a peer's SDP offer cannot be answered
    RefusedError        what was asked cannot be done; the message says why
    VoiceError          text cannot be spoken
    NotFoundError       there is no such session, room or avatar for this caller
    ConflictError       not in the present state: a second publisher, an interrupt of a microphone
"""

from __future__ import annotations

__all__ = [
    "ConflictError",
    "EngineLostError",
    "NotFoundError",
    "OfferError",
    "ProtocolError",
    "RefusedError",
    "ServerBusyError",
    "ServerConfigError",
    "StreamServerError",
    "VoiceError",
]


class StreamServerError(Exception):
    """Base of every error raised on purpose by this package."""


class ServerConfigError(StreamServerError):
    """A setting is impossible."""


class ProtocolError(StreamServerError):
    """A message breaks its format."""


class EngineLostError(StreamServerError):
    """The engine process ended or cannot be reached."""


class ServerBusyError(StreamServerError):
    """All places are taken. `queue_position` counts from 1, `ticket` keeps the place in the queue."""

    def __init__(self, sessions: int, retry_after_s: int, queue_position: int = 1, ticket: str = "") -> None:
        super().__init__(
            f"{sessions} of {sessions} places are taken; you are number {queue_position} in the queue, "
            f"try again in {retry_after_s} s"
        )
        self.sessions = sessions
        self.retry_after_s = retry_after_s
        self.queue_position = queue_position
        self.ticket = ticket


class OfferError(StreamServerError):
    """A peer's SDP offer cannot be answered."""


class RefusedError(StreamServerError):
    """What was asked cannot be done."""


class VoiceError(StreamServerError):
    """Text cannot be spoken: no such voice, or it failed."""


class NotFoundError(StreamServerError):
    """There is no such thing, or not for this caller."""


class ConflictError(StreamServerError):
    """It cannot be done in the present state."""
