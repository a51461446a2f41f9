"""The microphone's stream: unbroken, in real time, whatever the network and the caller do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_server.media.media_clock import NS_PER_MS, MediaClock
from stream_server.media.microphone import Block, MicrophoneStream
from stream_server.media.opus import FadingDecoder
from stream_server.metrics import SessionCounters


class Bench:
    """A stream on a made-up clock; packet n decodes to 960 samples of value n."""

    def __init__(self) -> None:
        self.now_ns = 10**12
        self.counters = SessionCounters()
        self.clock = MediaClock(48_000)
        self.stream = MicrophoneStream(self.clock, FadingDecoder(self.decode), self.counters)
        self.blocks: list[Block] = []

    @staticmethod
    def decode(payload: bytes) -> NDArray[np.int16] | None:
        return np.full(960, int.from_bytes(payload, "big"), np.int16) if payload else None

    def packet(self, number: int, payload: bytes | None = None) -> None:
        data = number.to_bytes(2, "big") if payload is None else payload
        self.blocks += self.stream.push(number % 65536, data, self.now_ns)

    def wait(self, ms: float) -> None:
        """Let time pass, with a tick every 20 ms."""
        end = self.now_ns + int(ms * NS_PER_MS)
        while self.now_ns < end:
            self.now_ns = min(end, self.now_ns + 20 * NS_PER_MS)
            self.blocks += self.stream.fill(self.now_ns)

    def position(self) -> int:
        at = 0
        for block in self.blocks:
            assert block.position == at
            at += len(block.samples)
        return at

    def values(self) -> list[int]:
        return [int(block.samples[-1]) for block in self.blocks]


def talk(bench: Bench, first: int, count: int) -> None:
    for number in range(first, first + count):
        bench.packet(number)
        bench.wait(20)


def test_packets_pass_unchanged() -> None:
    bench = Bench()
    talk(bench, 1, 20)
    assert bench.values() == list(range(1, 21))
    assert bench.position() == 20 * 960


def test_a_lost_packet_is_concealed_in_its_place() -> None:
    bench = Bench()
    for number in range(1, 30):
        if number != 10:
            bench.packet(number)
        bench.wait(20)
    assert bench.counters.packets_concealed == 1
    assert bench.values()[10:] == list(range(11, 30))
    assert 0 < bench.blocks[9].samples[0] <= 9


def test_a_broken_packet_counts_as_lost() -> None:
    bench = Bench()
    talk(bench, 1, 3)
    bench.packet(4, b"")
    assert bench.counters.packets_concealed == 1
    assert bench.position() == 4 * 960


def test_time_goes_on_when_the_microphone_stops() -> None:
    bench = Bench()
    talk(bench, 1, 50)
    bench.wait(3000)
    lag_ms = 4000 - bench.position() / 48
    assert -1 <= lag_ms <= 60
    assert bench.values()[-1] == 0


def test_time_goes_on_without_any_packet() -> None:
    bench = Bench()
    bench.wait(2000)
    assert 1900 <= bench.position() / 48 <= 2000


def test_a_microphone_that_resumes_is_heard_at_once() -> None:
    bench = Bench()
    talk(bench, 1, 50)
    bench.wait(5000)
    before = len(bench.blocks)
    talk(bench, 51, 50)
    assert [value for value in bench.values()[before:] if value] == list(range(51, 101))
    assert abs(7000 - bench.position() / 48) <= 60


def test_a_backlog_does_not_make_the_stream_late() -> None:
    bench = Bench()
    talk(bench, 1, 50)
    bench.wait(400)  # the network stalls; then everything comes at once
    for number in range(51, 71):
        bench.packet(number)
        bench.now_ns += NS_PER_MS // 2
    talk(bench, 71, 50)
    assert bench.values()[-49:] == list(range(72, 121))
    assert abs(2410 - bench.position() / 48) <= 20


def test_stalls_of_the_sender_leave_no_shift() -> None:
    bench = Bench()
    talk(bench, 1, 50)
    number = 51
    for _ in range(20):
        bench.wait(140)  # nothing for 140 ms; then what was held back, a little faster than real time
        for _ in range(14):
            bench.packet(number)
            number += 1
            bench.wait(10)
    talk(bench, number, 50)
    assert abs(50 * 20 + 20 * 280 + 50 * 20 - bench.position() / 48) <= 20
    assert bench.values()[-40:] == list(range(number + 10, number + 50))


def test_sequence_numbers_wrap() -> None:
    bench = Bench()
    for number in range(65530, 65545):
        bench.packet(number, (number % 1000).to_bytes(2, "big"))
        bench.wait(20)
    assert bench.counters.packets_concealed == 0
    assert bench.position() == 15 * 960
