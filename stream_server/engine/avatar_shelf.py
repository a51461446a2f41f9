"""Avatars that are loaded, by id: the least recently used one goes when they take more memory than allowed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["AvatarShelf"]


class AvatarShelf:
    """Thread-safe. An avatar that left the shelf lives on in the sessions that show it.

    `load` loads an avatar by id, and raises ModelError if it cannot; each has `size_bytes`.
    """

    def __init__(self, first_id: str, first: Any, load: Callable[[str], Any], *, limit_bytes: int) -> None:
        self.first_id = first_id
        self._load = load
        self._limit_bytes = limit_bytes
        self._held: OrderedDict[str, Any] = OrderedDict({first_id: first})
        self._lock = threading.Lock()

    def ids(self) -> list[str]:
        """What is loaded, the least recently used first."""
        with self._lock:
            return list(self._held)

    def get(self, avatar_id: str) -> Any:
        """A loaded avatar, or None."""
        with self._lock:
            if avatar_id in self._held:
                self._held.move_to_end(avatar_id)
            return self._held.get(avatar_id)

    def require(self, avatar_id: str) -> Any:
        """A loaded avatar; loads it if it is not. Two threads that ask at once may both load it: either will do."""
        held = self.get(avatar_id)
        if held is not None:
            return held
        loaded = self._load(avatar_id)
        with self._lock:
            self._held[avatar_id] = loaded
            self._held.move_to_end(avatar_id)
            self._evict()
        return loaded

    def _evict(self) -> None:
        """The first avatar and the newest always stay."""
        while sum(int(avatar.size_bytes) for avatar in self._held.values()) > self._limit_bytes:
            old = [i for i in self._held if i != self.first_id][:-1]
            if not old:
                return
            del self._held[old[0]]
