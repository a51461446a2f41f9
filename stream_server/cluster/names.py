"""Names in a cluster: a session's id names the node and the replica that have it, so that any front finds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["NAMESPACE", "Home", "agent_name", "node_of_agent"]

NAMESPACE = "nerf-lipsync"
NODE_DIGITS = 12
REPLICA_DIGITS = 8
_AGENT = "node-"
_SESSION = re.compile(
    rf"([0-9a-f]{{{NODE_DIGITS}}})([0-9a-z]{{{REPLICA_DIGITS}}})-(\d{{1,3}})-[A-Za-z0-9_-]+", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Home:
    """Where a session lives: a media worker of a replica on a node (beginnings of Ray's ids)."""

    node: str
    replica: str
    worker: int = 0

    @classmethod
    def of_session(cls, session_id: str) -> Self | None:
        """From a session's or viewer's id; None: no cluster gave it out."""
        found = _SESSION.fullmatch(session_id)
        return None if found is None else cls(found[1], found[2], int(found[3]))

    @property
    def prefix(self) -> str:
        """What ids of this replica's sessions begin with, before the worker's number."""
        return f"{self.node}{self.replica}-"


def agent_name(node: str) -> str:
    """The Ray actor of a node."""
    return _AGENT + node[:NODE_DIGITS]


def node_of_agent(name: str) -> str | None:
    """The inverse of `agent_name`; None: another kind of actor."""
    return name.removeprefix(_AGENT) if name.startswith(_AGENT) else None
