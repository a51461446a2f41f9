"""Pushed speech: nothing is lost, doubled or reordered, whatever the pieces and the pace; and what interrupts cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream_server.events import Event, FinishedEvent, SpokenEvent, StartedEvent
from stream_server.media.media_clock import NS_PER_MS, MediaClock
from stream_server.media.playback import Playback
from stream_server.media.speech_stream import SpeechStream


class Bench:
    """A stream on a made-up clock."""

    def __init__(self, capacity_s: float = 30.0) -> None:
        self.now_ns = 10**12
        self.clock = MediaClock(48_000)
        self.stream = SpeechStream(self.clock, capacity_s=capacity_s)
        self.heard: list[NDArray[np.int16]] = []
        self.events: list[Event] = []
        self.playback = Playback(self.stream, self.events.append)

    def wait(self, ms: int) -> None:
        """Let time pass, a tick every 20 ms."""
        for _ in range(ms // 20):
            for block in self.stream.fill(self.now_ns):
                self.heard.append(block.samples)
                self.playback.passed(block.position + 960, self.now_ns)
            self.now_ns += 20 * NS_PER_MS

    def sound(self) -> NDArray[np.int16]:
        return np.concatenate(self.heard)


@given(
    pieces=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    waits=st.lists(st.integers(0, 6), min_size=12, max_size=12),
)
def test_what_is_pushed_comes_out_once_and_in_order(pieces: list[int], waits: list[int]) -> None:
    bench = Bench()
    utterance = bench.stream.begin("u")
    pushed = np.arange(1, 1 + sum(pieces), dtype=np.int64)
    start = 0
    for length, wait in zip(pieces, waits, strict=False):
        assert bench.stream.push(utterance, (pushed[start : start + length] % 30_000 + 1).astype(np.int16))
        start += length
        bench.wait(20 * wait)
    bench.stream.close(utterance)
    bench.wait(1000)
    sound = bench.sound()
    np.testing.assert_array_equal(sound[sound != 0], pushed % 30_000 + 1)
    kinds = [event.type for event in bench.events if event.type != "playback.spoken"]
    assert kinds == ["playback.started", "playback.finished"]


def test_silence_keeps_the_pace_when_nothing_is_said() -> None:
    bench = Bench()
    bench.wait(500)
    assert len(bench.sound()) == 25 * 960
    assert not bench.sound().any()


def test_what_does_not_fit_is_refused_with_the_room() -> None:
    bench = Bench(capacity_s=0.1)
    utterance = bench.stream.begin("u")
    with pytest.raises(ValueError, match="do not fit into 4800"):
        bench.stream.push(utterance, np.ones(4801, np.int16))
    assert bench.stream.push(utterance, np.ones(4800, np.int16))
    assert bench.stream.room_samples == 0
    bench.wait(40)
    assert bench.stream.room_samples == 1920


def test_an_interrupt_cuts_what_is_not_over_and_late_sound_is_dropped() -> None:
    bench = Bench()
    first, second, third = (bench.stream.begin(name) for name in "abc")
    for utterance in (first, second):
        bench.stream.push(utterance, np.ones(4800, np.int16))
        bench.stream.close(utterance)
    bench.stream.push(third, np.ones(4800, np.int16))
    bench.wait(140)  # the second one is being said
    cut = bench.stream.interrupt(6000, 7680)
    assert [utterance.id for utterance in cut] == ["b", "c"]
    assert not bench.stream.push(third, np.ones(100, np.int16))
    bench.playback.interrupted(cut, 6000)
    told = {event.utterance: event.played_ms for event in bench.events if event.type == "interrupted"}
    assert told == {"b": 25, "c": 0}
    later = bench.stream.fill(bench.now_ns + 40 * NS_PER_MS)
    assert later[0].position == 7680
    assert not np.concatenate([block.samples for block in later]).any()


def test_an_empty_utterance_is_over_at_once() -> None:
    bench = Bench()
    bench.stream.close(bench.stream.begin("nothing"))
    bench.wait(60)
    assert [event.type for event in bench.events] == ["playback.started", "playback.finished"]


def test_an_utterance_that_is_open_and_still_does_not_keep_others_events_back() -> None:
    """What somebody else said in an assistant's session was told of when the assistant's own was over."""
    bench = Bench()
    silent, said = bench.stream.begin("still"), bench.stream.begin("said")
    bench.stream.push(said, np.ones(4800, np.int16))
    bench.stream.close(said)
    bench.wait(200)
    told = [event for event in bench.events if isinstance(event, StartedEvent | FinishedEvent)]
    assert [(event.type, event.utterance) for event in told] == [
        ("playback.started", "said"),
        ("playback.finished", "said"),
    ]
    bench.stream.push(silent, np.ones(4800, np.int16))
    bench.wait(100)
    second = bench.stream.begin("beside")
    bench.stream.push(second, np.ones(48_000, np.int16))
    bench.events.clear()
    bench.wait(900)
    spoken = [event.utterance for event in bench.events if isinstance(event, SpokenEvent)]
    assert spoken.count("still") == spoken.count("beside") >= 4
