"""Rooms of two: each hears the other's voice and sees the other's avatar; nobody hears themselves."""

from __future__ import annotations

from stream_server.errors import ConflictError
from stream_server.events import NoticeEvent
from stream_server.worker.place import Place

__all__ = ["Rooms"]

MEMBERS = 2


class Rooms:
    """Who is in which room. A room is there while someone is in it."""

    def __init__(self) -> None:
        self._members: dict[str, list[Place]] = {}

    def names(self) -> list[str]:
        """Rooms that someone is in."""
        return list(self._members)

    def check(self, room: str) -> None:
        """Raises ConflictError if the room is full."""
        if len(self._members.get(room, ())) >= MEMBERS:
            raise ConflictError(f"the room has {MEMBERS} people in it already")

    def join(self, room: str, place: Place) -> None:
        """Put a session into a room, and show each the other.

        Raises:
            ConflictError: The room is full.
        """
        self.check(room)
        place.room = room
        self._members.setdefault(room, []).append(place)
        self._show(room, "peer-joined", "the other one is here", but=place)

    def rejoin(self, place: Place) -> None:
        """A member has another peer now."""
        if place.room is not None:
            self._show(place.room)

    def leave(self, place: Place) -> None:
        """Take a session out of its room, if it is in one."""
        room = place.room
        if room is None or place not in self._members.get(room, ()):
            return
        self._members[room].remove(place)
        if not self._members[room]:
            del self._members[room]
        else:
            self._show(room, "peer-left", "the other one has left")

    def _show(self, room: str, code: str | None = None, message: str = "", but: Place | None = None) -> None:
        members = self._members[room]
        for place in members:
            if place.main is None:
                continue
            others = [other for other in members if other is not place]
            if others:
                place.main.show(others[0].feed)
            else:
                place.main.show(place.feed, sound=False)  # alone: one's own face, without one's own voice
            if code is not None and place is not but:
                place.emit(NoticeEvent(code=code, message=message))
