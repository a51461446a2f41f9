"""Whole sessions in virtual time over bad networks and with a model that falls behind: what freezes, what is late."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stream_server.bench.udp_relay import Decider, Impairment
from tests.support.virtual_call import Record, run_call

BAD_S = (4.0, 8.0)
END_S = 22.0
PACKET_S = 0.02
LONGEST_STILL_MS = 200.0
LONGEST_SOUND_MS = 50.0
"""Promised on any such network, in the server: between new pictures, and between packets of sound."""

ANY_NETWORK = st.builds(
    Impairment,
    loss=st.floats(0.0, 0.10),
    duplicate=st.floats(0.0, 0.10),
    reorder=st.floats(0.0, 0.05),
    jitter_ms=st.floats(0.0, 50.0),
    gap_ms=st.sampled_from([0.0, 300.0]),
    gap_after_ms=st.floats(0.0, 3000.0),
)
GENERATE = (Phase.explicit, Phase.generate)  # a call takes a second: shrinking would take minutes
WORST = Impairment(loss=0.1, duplicate=0.1, reorder=0.05, jitter_ms=50.0, gap_ms=300.0, gap_after_ms=1000.0)


def packets(network: Impairment, seed: int = 0, *, end_s: float = END_S) -> list[tuple[float, int]]:
    """When each packet comes (s) and its number; the network is bad within `BAD_S`."""
    decider, found = Decider(network, seed), []
    for number in range(round(end_s / PACKET_S)):
        sent_s = (number + 1) * PACKET_S
        if BAD_S[0] <= sent_s < BAD_S[1]:
            found += [(BAD_S[0] + ms / 1e3, number) for ms in decider.leave_ms((sent_s - BAD_S[0]) * 1e3)]
        else:
            found.append((sent_s, number))
    return sorted(found)


def check_sound(record: Record) -> None:
    """Sound leaves packet after packet, none left out, and no two far apart: time never stands still."""
    moments, positions = (np.array(column) for column in zip(*record.sounds, strict=True))
    assert (np.diff(positions) == 960).all()
    assert np.diff(moments).max() * 1e3 <= LONGEST_SOUND_MS


def check_call(network: Impairment, seed: int) -> None:
    record, session = run_call(packets(network, seed), seconds=END_S)
    check_sound(record)
    assert record.longest_still_ms(*BAD_S) <= LONGEST_STILL_MS
    assert abs(record.latency_ms(END_S - 2, END_S) - record.latency_ms(2, BAD_S[0])) <= 10.0
    assert record.longest_still_ms(END_S - 2, END_S) <= 45.0
    assert session.tally().hops_dropped == 0
    assert session.counters.audio_missing == 0


@settings(max_examples=3, deadline=None, phases=GENERATE)
@given(ANY_NETWORK, st.integers(0, 2**16))
def test_no_network_stalls_the_picture_or_leaves_the_call_late(network: Impairment, seed: int) -> None:
    check_call(network, seed)


def test_the_worst_network_neither() -> None:
    check_call(WORST, 1)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@settings(max_examples=200, deadline=None, phases=GENERATE)
@given(ANY_NETWORK, st.integers(0, 2**16))
def test_no_network_of_two_hundred_does(network: Impairment, seed: int) -> None:
    check_call(network, seed)


def stalls(at_s: float, for_ms: float, else_ms: float) -> Callable[[float], float]:
    """A model whose first step from `at_s` on takes long."""
    times_ms = iter([for_ms])
    return lambda now_s: next(times_ms, else_ms) if now_s >= at_s else else_ms


@pytest.mark.parametrize("network", [Impairment(), Impairment(jitter_ms=50.0)], ids=["calm", "jitter"])
def test_a_model_that_falls_behind_shows_a_late_mouth_and_catches_up(network: Impairment) -> None:
    """It stands still for 300 ms and then gains 8 ms a hop. Its frames came late by more than the playout delay, one
    and all, and were dropped until the delay had grown by 8 % of the time that went by: 1.3 s without a new picture."""
    record, session = run_call(packets(network, end_s=30.0), seconds=30.0, step_ms=stalls(5.0, 300.0, 72.0))
    check_sound(record)
    assert record.longest_still_ms(*BAD_S) <= 300.0 + 60.0
    assert session.counters.frames_late > 0
    late = np.array([shown - index for _, index, shown in record.shown if shown is not None])
    assert late.min() >= -12
    assert (late[[at > 10.0 for at, _, shown in record.shown if shown is not None]] == 0).all()
    assert abs(record.latency_ms(28.0, 30.0) - record.latency_ms(2, BAD_S[0])) <= 10.0


def test_a_model_that_is_too_slow_for_a_while_begins_anew() -> None:
    record, session = run_call(
        packets(Impairment()), seconds=END_S, step_ms=lambda now_s: 100.0 if 4.0 <= now_s < 8.0 else 50.0
    )
    assert session.tally().hops_dropped > 0
    assert record.longest_still_ms(4.0, 9.0) <= 640.0  # the hops that were given up
    assert record.longest_still_ms(END_S - 4, END_S) <= 45.0
    check_sound(record)


def test_short_hops_are_served_eighty_milliseconds_sooner() -> None:
    calm = packets(Impairment(), end_s=8.0)
    usual, _ = run_call(calm, seconds=8.0, step_ms=lambda _: 20.0)
    sooner, session = run_call(calm, seconds=8.0, step_ms=lambda _: 20.0, low_latency=True)
    assert session.algorithmic_ms == 60.0
    assert usual.latency_ms(4.0, 8.0) - sooner.latency_ms(4.0, 8.0) == pytest.approx(80.0, abs=12.0)
    assert sooner.longest_still_ms(4.0, 8.0) <= 45.0
    check_sound(sooner)


def test_a_first_frame_that_comes_before_the_second_makes_the_call_earlier() -> None:
    """The step takes 60 ms; with its first frame after 36 the sound may leave 24 ms earlier, and no frame is late."""
    calm = packets(Impairment())
    whole, _ = run_call(calm, seconds=END_S, step_ms=lambda _: 60.0)
    parts, session = run_call(calm, seconds=END_S, step_ms=lambda _: 60.0, first_frame_share=0.6)
    gained_ms = whole.latency_ms(END_S - 2, END_S) - parts.latency_ms(END_S - 2, END_S)
    assert gained_ms == pytest.approx(24.0, abs=3.0)
    check_sound(parts)
    assert parts.longest_still_ms(2.0, END_S - 1) <= 45.0
    assert session.counters.frames_late == 0


def test_frames_one_by_one_on_a_bad_network_and_behind_a_model_that_stalls() -> None:
    record, session = run_call(
        packets(WORST, 3), seconds=END_S, step_ms=stalls(5.0, 250.0, 50.0), first_frame_share=0.5
    )
    check_sound(record)
    shown = [index for _, _, index in record.shown if index is not None]
    assert shown == sorted(set(shown)), "each frame once, in order"
    assert session.tally().hops_dropped == 0
    assert record.longest_still_ms(END_S - 2, END_S) <= 45.0
