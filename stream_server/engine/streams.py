"""What the engine remembers of each session: its stream's state, its controls, and states to go back to."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KEPT_HOPS", "Stream", "StreamTable"]

KEPT_HOPS = 12
"""A session can be rewound that far: more than the playout delay ever holds."""


@dataclass
class Stream:
    """One session's stream. `state` is None while its avatar is loaded, and `wanted` then the one it was given
    meanwhile; `first_hop` is the first that it knows.

    `before` holds the state as it was before each of the last hops.
    """

    generation: int
    seed: int
    controls: Any
    rewindable: bool
    next_hop: int
    state: Any = None
    first_hop: int = 0
    wanted: Any = None
    before: OrderedDict[int, Any] = field(default_factory=OrderedDict)

    def begin(self, state: Any) -> None:
        """The stream begins, or begins anew, with the hop that comes next."""
        self.state = state
        self.first_hop = self.next_hop
        self.before.clear()

    def show(self, shown: Any) -> None:
        """Another avatar, from the next hop on."""
        if self.state is None:
            self.wanted = shown
        else:
            self.state.shown = shown

    def pass_over(self, hop: int) -> None:
        """`hop` came while the avatar was loaded: it is not heard."""
        self.next_hop = hop + 1

    def keep(self, hop: int) -> None:
        """`hop` is taken in now: remember the state before it."""
        self.next_hop = hop + 1
        if self.rewindable:
            self.before[hop] = self.state.snapshot()
            while len(self.before) > KEPT_HOPS:
                self.before.popitem(last=False)

    def rewind(self, generation: int, hop: int) -> bool:
        """Speech was interrupted: go back to the state before `hop`; False if it is not remembered."""
        if hop == self.next_hop:
            self.generation = generation
            self.state.interrupt()
            return True
        kept = self.before.get(hop)
        if kept is None:
            return False
        shown = self.state.shown
        self.state = kept
        self.state.shown = shown
        self.state.interrupt()
        self.generation, self.next_hop = generation, hop
        for later in [index for index in self.before if index >= hop]:
            del self.before[later]
        return True


class StreamTable:
    """Streams by connection and session."""

    def __init__(self) -> None:
        self._streams: dict[tuple[int, str], Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def put(self, connection: object, session: str, stream: Stream) -> None:
        """Add a stream in the place of an older one."""
        self._streams[id(connection), session] = stream

    def get(self, connection: object, session: str) -> Stream | None:
        """A session's stream, or None."""
        return self._streams.get((id(connection), session))

    def drop(self, connection: object, session: str | None) -> None:
        """Forget a session, or with None all of a connection."""
        for key in [k for k in self._streams if k[0] == id(connection) and session in (None, k[1])]:
            del self._streams[key]
