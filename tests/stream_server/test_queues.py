"""Bounded queues between the model and the network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.engine.batcher import Close, HopTask, Inbox
from stream_server.media.frame_queue import FrameQueue, SoundQueue, TimedFrame
from stream_server.media.hop_schedule import HopSchedule
from stream_server.media.trace import STAGES, TraceMeter, stages_ns
from stream_server.media.windower import Hop
from stream_server.metrics import SessionCounters, WorkerTotals


def frame(index: int, stamps: tuple[int, ...] = (), pace_ns: int = 0) -> TimedFrame:
    return TimedFrame(index, np.zeros((6, 4), np.uint8), stamps, {}, pace_ns)


def hop(index: int) -> Hop:
    return Hop(index, np.zeros(4, np.float32))


def test_frames_are_taken_by_index_and_older_ones_dropped() -> None:
    queue = FrameQueue()
    for index in range(4):
        queue.push(frame(index))
    taken = queue.take(2)
    assert taken is not None
    assert taken.index == 2
    assert queue.dropped == 2
    queue.push(frame(1))
    assert queue.dropped == 3
    assert queue.has(3)


def test_a_full_frame_queue_drops_its_oldest() -> None:
    queue = FrameQueue(capacity=2)
    for index in range(5):
        queue.push(frame(index))
    assert (queue.has(2), queue.has(3), queue.has(4), queue.dropped) == (False, True, True, 3)


def test_late_frames_are_handed_out_in_order_when_asked_for() -> None:
    queue = FrameQueue()
    queue.push(frame(0))
    assert queue.take(0) is not None
    for turn in range(1, 4):
        assert queue.take(turn) is None
    for index in (1, 2, 3):
        queue.push(frame(index))
    assert queue.take(4) is None
    late = [queue.take_late() for _ in range(4)]
    assert [one and one.index for one in late] == [1, 2, 3, None]
    assert queue.dropped == 0


def test_late_frames_are_few_and_not_too_old_and_end_with_one_in_time() -> None:
    queue = FrameQueue()
    assert queue.take(9) is None
    for index in range(6):
        queue.push(frame(index))
    assert queue.dropped == 2
    assert queue.take(15) is None
    late = queue.take_late()
    assert late is not None
    assert late.index == 4  # frame 3 is more than twelve behind
    queue.push(frame(16))
    assert queue.take(16) is not None
    assert queue.take_late() is None
    queue.push(frame(15))
    assert queue.take_late() is None
    assert queue.dropped == 6


def test_frames_that_will_come_anew_are_not_shown_late() -> None:
    queue = FrameQueue()
    assert queue.take(3) is None
    queue.push(frame(2))
    queue.drop_from(queue.next_index)
    assert queue.take_late() is None


@given(st.lists(st.integers(1, 700), max_size=30), st.integers(0, 3000), st.integers(1, 500))
def test_sound_is_read_back_by_position(sizes: list[int], position: int, count: int) -> None:
    stream = np.arange(1, sum(sizes) + 1, dtype=np.int16)
    queue = SoundQueue(1000)
    at = 0
    for size in sizes:
        queue.push(stream[at : at + size])
        at += size
    samples, missing = queue.read(position, count)
    held = range(max(0, len(stream) - 1000), len(stream))
    expected = [int(stream[p]) if p in held else 0 for p in range(position, position + count)]
    assert samples.tolist() == expected
    assert missing == sum(p not in held for p in range(position, position + count))


def test_at_most_two_hops_are_in_flight() -> None:
    schedule = HopSchedule()
    for index in range(4):
        assert not schedule.push(hop(index), index)
    first, second, third = schedule.next(10), schedule.next(11), schedule.next(12)
    assert first is not None
    assert second is not None
    assert (first.hop.index, second.hop.index, third) == (0, 1, None)
    assert schedule.landed(0, 0) is first
    fourth = schedule.next(13)
    assert fourth is not None
    assert fourth.hop.index == 2


def test_falling_behind_begins_a_new_generation() -> None:
    schedule = HopSchedule(most_in_flight=2, most_waiting=3)
    schedule.push(hop(0), 0)
    schedule.next(0)
    anew = [schedule.push(hop(index), index) for index in range(1, 6)]
    assert anew == [False, False, False, True, False]
    assert schedule.generation == 1
    assert schedule.landed(0, 0) is None  # an answer to the old generation
    flight = schedule.next(9)
    assert flight is not None
    assert flight.hop.index == 4
    assert schedule.dropped == 4


def test_a_hop_that_found_no_slot_comes_again() -> None:
    schedule = HopSchedule()
    schedule.push(hop(0), 5)
    flight = schedule.next(6)
    assert flight is not None
    schedule.put_back(flight)
    again = schedule.next(7)
    assert again is not None
    assert (again.hop.index, again.received_ns) == (0, 5)


def test_a_batch_never_holds_two_hops_of_one_session() -> None:
    inbox = Inbox()
    connection = object()

    def task(session: str, index: int) -> HopTask:
        return HopTask(connection, session, 0, index, 0, np.zeros(1, np.float32))

    tasks = [task("a", 0), task("b", 0), task("a", 1), Close(connection, "b")]
    for each in tasks:
        inbox.put(each)
    inbox.put(None)
    assert inbox.take(8) == tasks[:2]
    assert inbox.take(8) == [tasks[2]]
    assert inbox.take(8) == [tasks[3]]
    assert inbox.take(8) is None


@given(st.lists(st.integers(0, 10**9), min_size=5, max_size=5), st.integers(0, 10**9), st.integers(0, 10**8))
def test_stages_sum_exactly_to_the_total(steps: list[int], sent: int, pace_ns: int) -> None:
    stamps = tuple(int(x) for x in np.cumsum(steps))
    sent_ns = stamps[-1] + sent
    stages = stages_ns(frame(0, stamps, pace_ns), 0, sent_ns)
    assert tuple(stages) == STAGES
    assert sum(stages.values()) == sent_ns
    assert min(stages.values()) >= 0


def test_timing_is_reported_once_a_second() -> None:
    totals = WorkerTotals()
    meter = TraceMeter(140.0, totals)
    counters = SessionCounters()
    reports = []
    for index in range(76):
        now_ns = index * 40_000_000
        meter.sent(frame(index, (now_ns,) * 5), now_ns - 1000, now_ns)
        if (event := meter.report(now_ns, counters, 0)) is not None:
            reports.append(event)
    assert [event.frame for event in reports] == [25, 50, 75]
    assert sum(totals.total.to_json()["counts"]) == 76
    assert set(totals.stages) == set(STAGES)
    assert reports[0].fps == pytest.approx(25.0)
    assert reports[0].total_ms == pytest.approx(sum(reports[0].stages_ms.values()))
