"""What has really left of what an assistant said: events by the position at egress."""

from __future__ import annotations

from collections.abc import Callable

from stream_server.events import Event, FinishedEvent, InterruptedEvent, SpokenEvent, StartedEvent
from stream_server.media.media_clock import NS_PER_MS
from stream_server.media.opus import RATE_HZ
from stream_server.media.speech_stream import SpeechStream, Utterance

__all__ = ["Playback"]

_REPORT_EVERY_NS = 200 * NS_PER_MS
_PER_MS = RATE_HZ // 1000


class Playback:
    """Tells `emit` when utterances start, how far they are (five times a second) and when they are over."""

    def __init__(self, speech: SpeechStream, emit: Callable[[Event], None]) -> None:
        self._speech = speech
        self._emit = emit
        self._reported_ns = 0

    def passed(self, position: int, now_ns: int) -> None:
        """All sound before `position` (48 kHz) has left."""
        report = now_ns - self._reported_ns >= _REPORT_EVERY_NS
        for utterance in list(self._speech.utterances):
            if utterance.start is None or utterance.start >= position:
                continue  # one that is open and still: others may be heard before it
            if not utterance.started_told:
                utterance.started_told = True
                self._emit(StartedEvent(utterance=utterance.id, sample=utterance.start // 3))
            if utterance.end is None or utterance.end > position:
                if report:
                    self._reported_ns = now_ns
                    played_ms = (position - utterance.start) // _PER_MS
                    self._emit(SpokenEvent(utterance=utterance.id, played_ms=played_ms))
                continue
            self._speech.utterances.remove(utterance)
            self._emit(FinishedEvent(utterance=utterance.id, played_ms=utterance.placed // _PER_MS))

    def interrupted(self, cut: list[Utterance], position: int) -> None:
        """These utterances end at `position`."""
        for utterance in cut:
            start = position if utterance.start is None else utterance.start
            played = max(0, min(position - start, utterance.placed))
            self._emit(InterruptedEvent(utterance=utterance.id, played_ms=played // _PER_MS, sample=position // 3))
