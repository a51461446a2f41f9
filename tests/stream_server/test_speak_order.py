"""What an assistant sends is said in its order, sound and texts, and nothing is left open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.media.media_clock import MediaClock
from stream_server.media.speech_stream import SpeechStream
from stream_server.voices import SpokenSound
from stream_server.worker import speaker as speaker_module
from stream_server.worker.speaker import Speaker
from tests.stream_server.spoken import POSE, Spoken, sound, text


class Hum:
    """A voice that gives half a second of twos for each letter."""

    async def speak(self, text: str) -> AsyncIterator[SpokenSound]:
        for _ in text:
            await asyncio.sleep(0)
            yield SpokenSound(np.full(24_000, 2, np.int16), 48_000)


def ones(seconds: int) -> bytes:
    return b"".join(protocol.pack({"type": "binary"}, np.ones(24_000, "<i2").tobytes()) for _ in range(2 * seconds))


async def heard(spoken: Spoken, seconds: int) -> list[int]:
    """What is said in that time, without silence and repetitions, beside the loops that bring it."""
    speech, now_ns, said = spoken.speaker._speech, 10**12, []
    stream = spoken.stream
    loops = [asyncio.create_task(loop) for loop in (stream._read(), stream._carry_out(), stream._push())]
    for _ in range(100):
        await asyncio.sleep(0)
    for _ in range(50 * seconds):
        said += [block.samples for block in speech.fill(now_ns)]
        now_ns += 20_000_000
        for _ in range(6):
            await asyncio.sleep(0)
    for task in loops:
        task.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    await spoken.speaker.close()
    values = np.concatenate(said)
    values = values[values != 0]
    assert not len(spoken.speaker._speech._waiting)
    return [int(values[0]), *(int(value) for value in values[1:][np.diff(values) != 0])]


@pytest.mark.parametrize(
    ("messages", "order"),
    [
        ((ones(40), text(type="say", text="abcd")), [1, 2]),
        ((text(type="say", text="abcd"), ones(2)), [2, 1]),
        ((ones(40), text(type="say", text="ab"), ones(2), text(type="say", text="cd")), [1, 2, 1, 2]),
        ((text(type="utterance.begin", utterance="u"), text(type="say", text="abcd"), ones(1)), [2, 1]),
    ],
    ids=["text-after-sound", "sound-after-text", "in-turn", "after-nothing"],
)
def test_sound_and_texts_are_said_one_after_the_other(
    messages: tuple[bytes, ...], order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of a text stood between those of a sound that was too long to wait as a whole."""
    monkeypatch.setattr(speaker_module, "choose_voice", lambda *_: Hum())
    monkeypatch.setattr(speaker_module, "_ROOM_POLL_S", 0)

    async def run() -> list[int]:
        return await heard(Spoken(*messages), 50)

    assert asyncio.run(run()) == order


def test_what_is_said_waits_until_all_sound_before_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both waited for room and took it in turns: a text could be said in the middle of a long utterance."""
    monkeypatch.setattr("stream_server.worker.speaker._ROOM_POLL_S", 0.0)

    async def run() -> None:
        speech = SpeechStream(MediaClock(48_000))
        speaker = Speaker(cast(Any, SimpleNamespace(speech=speech, id="0-x")), ServerConfig())
        first, second = speaker.begin("first"), speaker.begin("second")
        first.coming = 1
        pushing = asyncio.create_task(speaker.push(second, np.ones(960, np.int16)))
        await asyncio.sleep(0)
        assert await speaker.push(first, np.ones(960, np.int16))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (first.accepted, second.accepted) == (960, 0)
        speaker.finish(first)
        assert await pushing
        assert second.accepted == 960

    asyncio.run(run())


def test_a_text_does_not_wait_for_sound_that_nobody_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else says it, while the assistant's utterance is open and still."""
    monkeypatch.setattr(speaker_module, "choose_voice", lambda *_: Hum())
    monkeypatch.setattr(speaker_module, "_ROOM_POLL_S", 0)

    async def run() -> list[int]:
        spoken = Spoken(ones(1))
        asyncio.get_running_loop().call_later(0, lambda: spoken.speaker.say("ab", None, None))
        return await heard(spoken, 5)

    assert asyncio.run(run()) == [1, 2]


def test_an_utterance_whose_assistant_goes_away_comes_to_an_end() -> None:
    """It was being said for ever, and nothing that followed was told to be."""

    async def run() -> list[tuple[str, bool]]:
        spoken = Spoken(text(type="utterance.begin", utterance="u"), ones(1))
        async with asyncio.timeout(10):
            await spoken.stream.run()
        spoken.speaker.begin("next")
        return [(one.id, one.closed) for one in spoken.speaker._speech.utterances]

    assert asyncio.run(run()) == [("u", True), ("next", False)]


def test_a_pose_ends_no_utterance() -> None:
    """What followed was said under another name, and whoever spoke was told too early that all was heard."""

    async def run() -> list[str]:
        spoken = Spoken(text(type="utterance.begin", utterance="u"), sound(960), POSE, sound(960))

        async def change(_controls: object, _avatar: object) -> None:
            pass

        cast(Any, spoken.stream._place.session).change = change
        await spoken.read()
        return [one.id for one in spoken.speaker._speech.utterances]

    assert asyncio.run(run()) == ["u"]
