"""Errors of the server, one family.

StreamServerError
    ServerConfigError   a setting is impossible; the command line prints it and exits 2
    ProtocolError       a message between processes, or from a peer, breaks its format
    EngineLostError     the engine process ended or cannot be reached
    ServerBusyError     all places are taken; carries the seconds after which to try again
    OfferError          a peer's SDP offer cannot be answered
"""

from __future__ import annotations

__all__ = [
    "EngineLostError",
    "OfferError",
    "ProtocolError",
    "ServerBusyError",
    "ServerConfigError",
    "StreamServerError",
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
    """All places are taken."""

    def __init__(self, sessions: int, retry_after_s: int) -> None:
        super().__init__(f"{sessions} of {sessions} places are taken; try again in {retry_after_s} s")
        self.sessions = sessions
        self.retry_after_s = retry_after_s


class OfferError(StreamServerError):
    """A peer's SDP offer cannot be answered."""
