"""The media clock and the playout delay, on times we make up."""

from __future__ import annotations

import numpy as np

from stream_server.media.media_clock import NS_PER_MS, NS_PER_S, MediaClock, PlayoutDelay


def run_clock(skew: float, jitter_ms: float, seconds: int = 120) -> float:
    """Error (ms) of the clock's last prediction for a sender that runs fast by `skew`."""
    clock = MediaClock(48_000)
    rng = np.random.default_rng(1)
    for packet in range(1, seconds * 50):
        true_ns = packet * 20 * NS_PER_MS / (1 + skew)
        clock.observe(packet * 960, int(true_ns + rng.exponential(jitter_ms) * NS_PER_MS))
    return (clock.time_ns(packet * 960) - true_ns) / NS_PER_MS


def test_a_steady_sender_is_followed_exactly() -> None:
    assert abs(run_clock(0.0, 0.0)) < 0.01


def test_jitter_is_ignored() -> None:
    assert abs(run_clock(0.0, 5.0)) < 3.0


def test_a_skewed_sender_is_followed() -> None:
    for skew in (-0.001, 0.001):
        assert abs(run_clock(skew, 2.0)) < 6.0


def test_positions_are_spaced_by_the_rate() -> None:
    clock = MediaClock(48_000)
    clock.start(5)
    assert clock.time_ns(48_000) - clock.time_ns(0) == NS_PER_S


def test_the_delay_settles_at_what_hops_need() -> None:
    delay = PlayoutDelay(160.0, 100.0, safety_ms=8.0)
    for hop in range(1200):
        delay.observe(40 * NS_PER_MS, hop * 80 * NS_PER_MS)
    assert abs(delay.total_ns / NS_PER_MS - 208.0) < 1.0


def test_the_delay_moves_slowly_and_stays_within_limits() -> None:
    """Some hops late: up by 8 % of the time that goes by; all of them: by a quarter of it; back by 2 %."""
    delay = PlayoutDelay(160.0, 20.0, limits_ms=(5.0, 100.0))
    hop = 0

    def steps_ms(lateness_ms: list[int], hops: int) -> list[float]:
        nonlocal hop
        moved = []
        for _ in range(hops):
            before = delay.total_ns
            delay.observe(lateness_ms[hop % len(lateness_ms)] * NS_PER_MS, hop * 80 * NS_PER_MS)
            moved.append((delay.total_ns - before) / NS_PER_MS)
            hop += 1
        return moved

    assert max(steps_ms([0, 60], 100)) == 6.4
    assert delay.total_ns == 228 * NS_PER_MS
    assert max(steps_ms([900], 100)) == 20.0
    assert delay.total_ns == 260 * NS_PER_MS
    assert min(steps_ms([0], 200)) == -1.6
    assert delay.total_ns == 168 * NS_PER_MS


def test_a_standstill_does_not_make_the_delay_jump() -> None:
    delay = PlayoutDelay(160.0, 20.0)
    delay.observe(0, 0)
    for _ in range(4):
        delay.observe(500 * NS_PER_MS, 0)
    delay.observe(500 * NS_PER_MS, 5 * NS_PER_S)
    assert delay.total_ns == (160 + 20 + 25) * NS_PER_MS
