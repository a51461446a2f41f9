"""From received Opus packets to an unbroken stream of 48 kHz blocks that keeps real time.

Positions are contiguous: each block, real or made up, takes the next samples. When nothing comes for 60 ms a
block is made up (concealment, then silence); after three in a row the microphone counts as stopped and blocks
are made up exactly on time, so video never stalls.

When packets come again they are either fresh (the microphone was off) or a backlog (the network or the sender
stalled) whose time has been filled already. A backlog brings the stream ahead of the clock: such packets are
dropped until the debt is paid, so that a stall leaves no shift behind; those of a resumed microphone are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.media.jitter_buffer import JitterBuffer, Lost, Packet
from stream_server.media.media_clock import NS_PER_MS, MediaClock
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ, SoundDecoder
from stream_server.metrics import SessionCounters

__all__ = ["Block", "MicrophoneStream"]

_PATIENCE_NS = 60 * NS_PER_MS
_STOPPED_PATIENCE_NS = 2 * NS_PER_MS
_STOPPED_AFTER_BLOCKS = 3
_AHEAD_NS = 12 * NS_PER_MS
_CALM_BLOCKS = 50  # on time after that many packets: nothing of a backlog is left
_MOST_FILLED_AT_ONCE = 25  # blocks; a longer standstill of this process restarts the clock


@dataclass(frozen=True, slots=True)
class Block:
    """Mono samples of the stream from `position` (at 48 kHz) on."""

    position: int
    samples: NDArray[np.int16]


class MicrophoneStream:
    """Orders, decodes and completes one microphone's packets; drives the media clock."""

    def __init__(
        self,
        clock: MediaClock,
        decoder: SoundDecoder,
        counters: SessionCounters,
        *,
        capacity: int = 4,
    ) -> None:
        self._clock = clock
        self._decoder = decoder
        self._counters = counters
        self._buffer = JitterBuffer(capacity)
        self._position = 0
        self._debt_blocks = 0
        self._filled_in_row = 0
        self._on_time = 0

    @property
    def waiting(self) -> int:
        """Packets held back behind a gap."""
        return self._buffer.waiting

    def push(self, sequence: int, payload: bytes, now_ns: int) -> list[Block]:
        """Take one packet; return the blocks that follow from it."""
        self._counters.packets_received += 1
        items = self._buffer.push(Packet(sequence, payload))
        self._counters.packets_late = self._buffer.late
        blocks = []
        for item, following in _with_following(items):
            if self._debt_blocks and self._ahead(now_ns):
                self._debt_blocks -= 1
                self._on_time = 0
                self._counters.packets_stale += 1
                continue
            self._on_time += 1
            blocks.append(self._block(item, following))
        if blocks:
            if self._on_time >= _CALM_BLOCKS:
                self._debt_blocks = 0
            self._filled_in_row = 0
            if not self._debt_blocks:  # in debt, being ahead says nothing about the sender's clock
                self._clock.observe(self._position, now_ns)
        return blocks

    def fill(self, now_ns: int) -> list[Block]:
        """Make up what is overdue; call every 20 ms or so."""
        if not self._clock.started:
            self._clock.start(now_ns)
        blocks: list[Block] = []
        while self._overdue(now_ns):
            if len(blocks) >= _MOST_FILLED_AT_ONCE:
                self._clock.start(now_ns - self._position * 1_000_000_000 // RATE_HZ)
                break
            items = self._buffer.give_up()
            if items:
                pairs = _with_following(items)
                blocks.extend(self._block(item, following) for item, following in pairs)
                continue
            self._debt_blocks += 1
            self._filled_in_row += 1
            self._on_time = 0
            self._counters.blocks_filled += 1
            blocks.append(self._take(self._decoder.conceal(None)))
        return blocks

    def _overdue(self, now_ns: int) -> bool:
        stopped = self._filled_in_row >= _STOPPED_AFTER_BLOCKS
        patience_ns = _STOPPED_PATIENCE_NS if stopped else _PATIENCE_NS
        return now_ns > self._clock.time_ns(self._position + BLOCK_SAMPLES) + patience_ns

    def _ahead(self, now_ns: int) -> bool:
        return self._clock.time_ns(self._position + BLOCK_SAMPLES) > now_ns + _AHEAD_NS

    def _block(self, item: Packet | Lost, following: Packet | Lost | None) -> Block:
        samples = self._decoder.decode(item.payload) if isinstance(item, Packet) else None
        if samples is None:
            self._counters.packets_concealed += 1
            hint = following.payload if isinstance(following, Packet) else None
            return self._take(self._decoder.conceal(hint))
        return self._take(samples)

    def _take(self, samples: NDArray[np.int16]) -> Block:
        block = Block(self._position, samples)
        self._position += len(samples)
        return block


def _with_following(items: list[Packet | Lost]) -> list[tuple[Packet | Lost, Packet | Lost | None]]:
    """Each item and the one after it."""
    return [(item, items[i + 1] if i + 1 < len(items) else None) for i, item in enumerate(items)]
