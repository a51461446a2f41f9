"""Who a caller is: the holder of the server's token, of a single-use ticket, or of an invitation to a room."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["LOCAL", "Principal", "Principals"]

_TICKET_S = 60.0
_INVITE_S = 24 * 3600.0
_MOST_HELD = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """`owner` is what sessions are bound to. `room`: the only room that this caller may join."""

    owner: str
    room: str | None = None


LOCAL = Principal("local")
"""Everybody, where the server listens on loopback only and has no token."""


class Principals:
    """Knows the token, and the tickets and invitations it gave out. Only hashes of those are kept."""

    def __init__(self, token: str | None, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._now_s = now_s
        self._tickets: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._invites: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def of_header(self, authorization: str) -> Principal | None:
        """Who sends this `Authorization` header; None: nobody we know."""
        scheme, _, given = authorization.partition(" ")
        given = given.strip()
        if scheme.lower() == "bearer" and given:
            if self._token is not None and hmac.compare_digest(given.encode(), self._token.encode()):
                return Principal(_digest(self._token)[:16])
            invited = self._held(self._invites, given)
            if invited is not None:
                return invited
        return LOCAL if self._token is None and not given else None

    def ticket(self, principal: Principal) -> str:
        """A ticket that opens one socket within a minute, as this caller."""
        return self._give(self._tickets, principal, _TICKET_S)

    def of_ticket(self, ticket: str) -> Principal | None:
        """Who holds the ticket; it is used up. None: it was never given, is old, or was used."""
        found = self._held(self._tickets, ticket)
        self._tickets.pop(_digest(ticket), None)
        return found

    def invite(self, room: str) -> str:
        """An invitation to one room, good for a day; its holders may do nothing else."""
        return self._give(self._invites, Principal(f"room:{secrets.token_hex(8)}", room), _INVITE_S)

    def _give(self, held: OrderedDict[str, tuple[Principal, float]], principal: Principal, lasts_s: float) -> str:
        secret = secrets.token_urlsafe(24)
        held[_digest(secret)] = (principal, self._now_s() + lasts_s)
        while len(held) > _MOST_HELD or (held and next(iter(held.values()))[1] < self._now_s()):
            held.popitem(last=False)
        return secret

    def _held(self, held: OrderedDict[str, tuple[Principal, float]], secret: str) -> Principal | None:
        principal, until_s = held.get(_digest(secret), (None, 0.0))
        return principal if until_s >= self._now_s() else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
