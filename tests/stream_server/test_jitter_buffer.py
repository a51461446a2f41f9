"""The jitter buffer: order, loss, lateness, wrap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_server.media.jitter_buffer import JitterBuffer, Lost, Packet


def packet(number: int) -> Packet:
    return Packet(number % 65536, number.to_bytes(4, "big"))


def numbers(items: list[Packet | Lost], start: int) -> list[tuple[int, bool]]:
    """Unwrapped sequence numbers and whether the packet came."""
    return [((item.sequence - start) % 65536, isinstance(item, Packet)) for item in items]


def test_in_order_packets_come_out_at_once() -> None:
    buffer = JitterBuffer()
    for number in range(65530, 65550):
        assert buffer.push(packet(number)) == [packet(number)]
    assert buffer.late == 0


def test_swapped_packets_are_put_in_order() -> None:
    buffer = JitterBuffer()
    buffer.push(packet(0))
    assert buffer.push(packet(2)) == []
    assert buffer.push(packet(1)) == [packet(1), packet(2)]


def test_one_loss_costs_no_delay_afterwards() -> None:
    buffer = JitterBuffer(capacity=4)
    out = [item for number in range(50) if number != 20 for item in buffer.push(packet(number))]
    assert Lost(20) in out
    assert buffer.waiting == 0
    assert buffer.push(packet(50)) == [packet(50)]


def test_a_late_packet_is_dropped_and_counted() -> None:
    buffer = JitterBuffer(capacity=2)
    for number in (0, 2, 3):
        buffer.push(packet(number))
    assert buffer.push(packet(1)) == []
    assert buffer.push(packet(3)) == []
    assert buffer.late == 2


def test_a_sender_that_begins_anew_is_followed() -> None:
    buffer = JitterBuffer()
    buffer.push(packet(10))
    assert buffer.push(packet(30_000)) == [packet(30_000)]
    assert buffer.push(packet(30_001)) == [packet(30_001)]


def test_give_up_without_anything_waiting_does_nothing() -> None:
    assert JitterBuffer().give_up() == []


@given(
    start=st.integers(0, 65535),
    lost=st.sets(st.integers(1, 79), max_size=20),
    delays=st.lists(st.integers(0, 6), min_size=80, max_size=80),
    doubled=st.sets(st.integers(0, 79), max_size=5),
    capacity=st.integers(1, 6),
)
def test_whatever_the_network_does(
    start: int, lost: set[int], delays: list[int], doubled: set[int], capacity: int
) -> None:
    arrivals = sorted((i + delays[i], i) for i in range(1, 80) if i not in lost)
    order = [0] + [i for _, i in arrivals]
    order += [i for i in order if i in doubled]
    buffer = JitterBuffer(capacity)
    out: list[Packet | Lost] = []
    for i in order:
        out += buffer.push(packet(start + i))
        assert buffer.waiting < capacity
    out += buffer.flush()
    seen = numbers(out, start)
    assert [number for number, _ in seen] == list(range(len(seen)))  # in order, without holes or repeats
    assert all(came or number in lost or delays[number] > 0 for number, came in seen)
    came = sum(came for _, came in seen)
    assert came + buffer.late == len(order)
