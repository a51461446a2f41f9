"""The bad network: rates, order, nothing invented, the same every time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.bench.errors import BenchError
from stream_server.bench.udp_relay import Decider, Impairment, UdpRelay, replace_candidates

PACKETS = 4000
PROBABILITY = st.floats(0.0, 1.0)
TIME_MS = st.floats(0.0, 300.0)
ANY_NETWORK = st.builds(
    Impairment,
    loss=PROBABILITY,
    duplicate=PROBABILITY,
    reorder=PROBABILITY,
    reorder_ms=TIME_MS,
    delay_ms=TIME_MS,
    jitter_ms=TIME_MS,
    gap_ms=TIME_MS,
    gap_after_ms=TIME_MS,
)


def run(impairment: Impairment, seed: int = 3, packets: int = PACKETS) -> list[list[float]]:
    """Moments at which packets leave that come every 10 ms."""
    decider = Decider(impairment, seed)
    return [decider.leave_ms(10.0 * n) for n in range(packets)]


@given(ANY_NETWORK, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_nothing_is_invented_and_all_is_counted(network: Impairment, seed: int) -> None:
    decider = Decider(network, seed)
    left = [decider.leave_ms(10.0 * n) for n in range(200)]
    counts = decider.counts
    assert counts.came == 200
    assert counts.lost == sum(not moments for moments in left)
    assert counts.doubled == sum(len(moments) == 2 for moments in left)
    assert max(map(len, left)) <= 2
    longest = network.delay_ms + max(network.jitter_ms, network.reorder_ms)
    for n, moments in enumerate(left):
        assert all(10.0 * n + network.delay_ms <= moment <= 10.0 * n + longest + 1e-6 for moment in moments)


@given(ANY_NETWORK, st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_equal_seeds_decide_alike(network: Impairment, seed: int) -> None:
    assert run(network, seed, 100) == run(network, seed, 100)


@given(ANY_NETWORK)
@settings(max_examples=30, deadline=None)
def test_without_reordering_order_is_kept(network: Impairment) -> None:
    left = [moment for moments in run(dataclasses.replace(network, reorder=0.0), packets=300) for moment in moments]
    assert left == sorted(left)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1])
def test_loss_has_its_rate(rate: float) -> None:
    lost = sum(not moments for moments in run(Impairment(loss=rate)))
    assert lost / PACKETS == pytest.approx(rate, abs=4 * (rate * (1 - rate) / PACKETS) ** 0.5)


def test_duplicates_have_their_rate_and_leave_together() -> None:
    doubled = [moments for moments in run(Impairment(duplicate=0.2)) if len(moments) == 2]
    assert len(doubled) / PACKETS == pytest.approx(0.2, abs=0.03)
    assert all(first == second for first, second in doubled)


def test_reordered_packets_are_overtaken() -> None:
    left = [moments[0] for moments in run(Impairment(reorder=0.1, reorder_ms=25.0))]
    late = [n for n in range(PACKETS) if left[n] == 10.0 * n + 25.0]
    assert len(late) / PACKETS == pytest.approx(0.1, abs=0.02)
    assert all(left[n] > left[n + 1] for n in late if n + 1 < PACKETS and n + 1 not in late)


def test_jitter_spreads_over_its_range() -> None:
    delays = [moments[0] - 10.0 * n for n, moments in enumerate(run(Impairment(delay_ms=5.0, jitter_ms=50.0)))]
    assert min(delays) >= 5.0
    assert max(delays) == pytest.approx(55.0, abs=1.0)


def test_a_gap_swallows_exactly_its_time() -> None:
    left = run(Impairment(gap_ms=300.0, gap_after_ms=1000.0))
    assert [n for n, moments in enumerate(left) if not moments] == list(range(100, 130))


def test_the_same_packets_are_lost_with_and_without_jitter() -> None:
    plain = [not moments for moments in run(Impairment(loss=0.1))]
    assert plain == [not moments for moments in run(Impairment(loss=0.1, jitter_ms=40.0))]


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"duplicate": -0.1}, {"gap_ms": -1.0}])
def test_an_impossible_network_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BenchError, match=f"{next(iter(wrong))} must be"):
        Impairment(**wrong)


SDP = "\r\n".join(
    [
        "v=0",
        "m=audio 5000 UDP/TLS/RTP/SAVPF 96",
        "a=candidate:abc 1 udp 2130706431 10.0.0.1 5000 typ host",
        "a=candidate:def 1 udp 1694498815 1.2.3.4 6000 typ srflx raddr 10.0.0.1 rport 5000",
        "a=end-of-candidates",
        "m=video 5001 UDP/TLS/RTP/SAVPF 97",
        "a=candidate:abc 1 udp 2130706431 10.0.0.1 5001 typ host",
        "a=candidate:ghi 1 udp 2130706431 10.0.0.2 5002 typ host",
        "a=mid:1",
        "",
    ]
)


def test_each_section_gets_our_candidate_and_no_other() -> None:
    lines = replace_candidates(SDP, ("127.0.0.1", 7)).splitlines()
    assert [line for line in lines if "candidate:" in line] == [
        "a=candidate:1 1 udp 2130706431 127.0.0.1 7 typ host"
    ] * 2
    assert [line for line in lines if "candidate:" not in line] == [
        x for x in SDP.splitlines() if "candidate:" not in x
    ]


def test_sdp_without_candidates_is_refused() -> None:
    with pytest.raises(BenchError, match="no UDP host candidate"):
        replace_candidates("v=0\r\n", ("127.0.0.1", 7))


class Peer(asyncio.DatagramProtocol):
    """Collects what it is sent."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.changed = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.append(data)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def test_packets_pass_both_ways_and_fall_as_decided() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        ends = [await loop.create_datagram_endpoint(Peer, local_addr=("127.0.0.1", 0)) for _ in range(2)]
        (caller, caller_peer), (server, server_peer) = ends
        ports = [transport.get_extra_info("sockname")[1] for transport in (caller, server)]
        relay = UdpRelay(seed=5)
        await relay.open()
        to_server = relay.offer(SDP.replace("10.0.0.1 5000", f"127.0.0.1 {ports[0]}"))
        to_caller = relay.answer(SDP.replace("10.0.0.1 5000", f"127.0.0.1 {ports[1]}"))
        addresses = [("127.0.0.1", int(sdp.split("127.0.0.1 ")[1].split()[0])) for sdp in (to_caller, to_server)]
        server.sendto(b"before the caller spoke", addresses[1])
        await caller_peer.until(lambda: len(caller_peer.got) == 1)
        caller.sendto(b"hello", addresses[0])
        await server_peer.until(lambda: server_peer.got == [b"hello"])
        relay.impair(Impairment(loss=0.5))
        decider = Decider(Impairment(loss=0.5), 5)
        kept = [n for n in range(40) if decider.leave_ms(0.0)]
        sent = kept[-1] + 1  # the last one arrives: then all before it have been decided
        for n in range(sent):
            caller.sendto(bytes([n]), addresses[0])
        await server_peer.until(lambda: len(server_peer.got) == 1 + len(kept))
        assert server_peer.got[1:] == [bytes([n]) for n in kept]
        up, down = relay.impair(Impairment())
        assert (up.came, up.lost, up.sent) == (sent, sent - len(kept), len(kept))
        assert down.came == 0
        relay.close()
        for transport, _ in ends:
            transport.close()

    asyncio.run(talk())
