"""A bad network between two UDP peers: loses, doubles, delays and reorders packets, the same way every time.

The relay stands between a caller and a server whose candidates in SDP were replaced by its own addresses. What happens
to packet number n of a direction depends only on the seed, the direction and n, and on time only for a gap.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from stream_server.bench.errors import BenchError

__all__ = ["Counts", "Decider", "Impairment", "UdpRelay", "replace_candidates"]

Address = tuple[str, int]
_CANDIDATE = re.compile(r"a=candidate:\S+ \d+ udp \d+ \S+ \d+ typ host", re.IGNORECASE)
_PRIORITY = 2130706431


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """What the network does to each packet. Probabilities 0..1, times in ms.

    `delay_ms` holds for all; `jitter_ms` adds 0..jitter_ms evenly, and packets stay in order. A reordered one is held
    back by `reorder_ms`, so that later ones overtake it. From `gap_after_ms` on nothing passes for `gap_ms`.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 30.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    gap_ms: float = 0.0
    gap_after_ms: float = 0.0

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BenchError(f"{name} must be within 0..1, got {getattr(self, name)}")
        for name in ("reorder_ms", "delay_ms", "jitter_ms", "gap_ms", "gap_after_ms"):
            if getattr(self, name) < 0.0:
                raise BenchError(f"{name} must be at least 0 ms, got {getattr(self, name)}")


@dataclass(slots=True)
class Counts:
    """What became of one direction's packets."""

    came: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    sent: int = 0


class Decider:
    """When copies of each packet of one direction leave. Pure: the caller brings the time.

    Every packet draws as many random values whatever is impaired, so one seed loses the same packets with and
    without jitter.
    """

    def __init__(self, impairment: Impairment, seed: int) -> None:
        self._impairment = impairment
        self._random = random.Random(seed)
        self._in_order_ms = float("-inf")
        self.counts = Counts()

    def leave_ms(self, now_ms: float) -> list[float]:
        """Moments at which the packet that comes at `now_ms` leaves: none, one or two. `now_ms` starts at 0."""
        bad = self._impairment
        lost, doubled, reordered, jitter = (self._random.random() for _ in range(4))
        self.counts.came += 1
        in_gap = bad.gap_after_ms <= now_ms < bad.gap_after_ms + bad.gap_ms
        if in_gap or lost < bad.loss:
            self.counts.lost += 1
            return []
        if reordered < bad.reorder:
            self.counts.reordered += 1
            leave = now_ms + bad.delay_ms + bad.reorder_ms
        else:
            leave = max(self._in_order_ms, now_ms + bad.delay_ms + jitter * bad.jitter_ms)
            self._in_order_ms = leave
        copies = 1 + (doubled < bad.duplicate)
        self.counts.doubled += copies - 1
        return [leave] * copies


def replace_candidates(sdp: str, address: Address) -> str:
    """The same SDP with the one candidate `address` for each section that had any."""
    host, port = address
    ours = f"a=candidate:1 1 udp {_PRIORITY} {host} {port} typ host"
    lines: list[str] = []
    placed = False
    for line in sdp.splitlines():
        if line.startswith("m="):
            placed = False
        if line.startswith("a=candidate:"):
            if not placed and _CANDIDATE.match(line):
                lines.append(ours)
                placed = True
            continue
        lines.append(line)
    if ours not in lines:
        raise BenchError("the SDP offers no UDP host candidate that could be replaced")
    return "\r\n".join(lines) + "\r\n"


class UdpRelay:
    """Two sockets on loopback; what comes in by one leaves by the other.

    The caller sees `for_caller`, the server `for_server`. Each side's address is learned from its first packet or,
    before that, from the SDP that passes `offer` and `answer`.
    """

    def __init__(self, *, seed: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seed = seed
        self._clock = clock
        self._ends: list[_End] = []
        self._since_s = 0.0
        self._deciders = (Decider(Impairment(), seed), Decider(Impairment(), seed + 1))

    async def open(self) -> None:
        """Bind both sockets."""
        loop = asyncio.get_running_loop()
        for side in (0, 1):
            _, end = await loop.create_datagram_endpoint(
                lambda side=side: _End(lambda data: self._forward(data, side)),  # type: ignore[misc]
                local_addr=("127.0.0.1", 0),
            )
            self._ends.append(end)
        self.impair(Impairment())

    @property
    def addresses(self) -> tuple[Address, Address]:
        """What the caller sends to, and what the server does."""
        return self._ends[0].address, self._ends[1].address

    def close(self) -> None:
        """Release the sockets; idempotent. Packets on their way are lost."""
        for end in self._ends:
            end.close()
        self._ends = []

    def impair(self, impairment: Impairment) -> tuple[Counts, Counts]:
        """From now on the network is like this, both ways; what became of packets before: to and from the server."""
        before = (self._deciders[0].counts, self._deciders[1].counts)
        self._deciders = (Decider(impairment, self._seed), Decider(impairment, self._seed + 1))
        self._since_s = self._clock()
        return before

    def offer(self, sdp: str) -> str:
        """The caller's offer as the server shall see it."""
        self._ends[0].peer = self._ends[0].peer or _first_candidate(sdp)
        return replace_candidates(sdp, self._ends[1].address)

    def answer(self, sdp: str) -> str:
        """The server's answer as the caller shall see it."""
        self._ends[1].peer = _first_candidate(sdp)
        return replace_candidates(sdp, self._ends[0].address)

    def _forward(self, data: bytes, side: int) -> None:
        now_ms = (self._clock() - self._since_s) * 1e3
        decider, out = self._deciders[side], self._ends[1 - side]
        for leave_ms in decider.leave_ms(now_ms):
            decider.counts.sent += 1
            if leave_ms <= now_ms:
                out.send(data)
            else:
                asyncio.get_running_loop().call_later((leave_ms - now_ms) / 1e3, out.send, data)


class _End(asyncio.DatagramProtocol):
    """One socket, and whom it talks to."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._transport: asyncio.DatagramTransport | None = None
        self.peer: Address | None = None

    @property
    def address(self) -> Address:
        """Where this socket listens."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        return str(host), int(port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # Python 3.11's own is no subclass

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.peer = addr
        self._take(data)

    def send(self, data: bytes) -> None:
        """To the peer, if it is known."""
        if self._transport is not None and self.peer is not None:
            self._transport.sendto(data, self.peer)

    def close(self) -> None:
        """Idempotent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def _first_candidate(sdp: str) -> Address:
    for line in sdp.splitlines():
        if _CANDIDATE.match(line):
            words = line.split()
            return words[4], int(words[5])
    raise BenchError("the SDP offers no UDP host candidate to talk to")
