"""The assistant's door over a real socket to a real server, with a stand-in for the model."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Awaitable, Callable, Iterator

import av
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from tests.stream_server.server_calls import Assistant, client, tone
from tests.stream_server.server_process import ServerProcess

LOUD = 500.0


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--max-sessions", "2", "--offers-per-minute", "6000") as process:
        yield process


def with_assistant(server: ServerProcess, talk: Callable[[Assistant], Awaitable[None]], **start: object) -> Assistant:
    async def run() -> Assistant:
        assistant = await Assistant.open(server, **start)
        async with assistant.socket:
            await talk(assistant)
        return assistant

    return asyncio.run(run())


@pytest.mark.parametrize(
    "rate_hz", [24_000, *(pytest.param(rate_hz, marks=pytest.mark.nightly) for rate_hz in (16_000, 48_000))]
)
def test_what_is_pushed_is_heard_whole_and_told(server: ServerProcess, rate_hz: int) -> None:
    async def talk(assistant: Assistant) -> None:
        await assistant.until(lambda: len(assistant.pictures) > 5)
        await assistant.send(type="utterance.begin", utterance="one")
        sound = tone(0.8, rate_hz)
        for start in range(0, len(sound), 4001 * 2):  # pieces that fit nothing
            await assistant.socket.send(sound[start : start + 4001 * 2])
        await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.finished")))

    assistant = with_assistant(server, talk, rate_hz=rate_hz, frames="jpeg")
    assert assistant.kinds() == ["ready", "playback.started", "playback.finished"]
    assert assistant.of("playback.finished")[0] == {
        "v": 1,
        "type": "playback.finished",
        "utterance": "one",
        "played_ms": pytest.approx(800, abs=3),
    }
    loud = [position for position, level in assistant.loud if level > LOUD]
    assert 0.75 < len(loud) * 0.02 < 0.86
    started = assistant.of("playback.started")[0]["sample"] * 3
    assert abs(loud[0] - started) <= 960
    assert assistant.pictures == sorted(assistant.pictures)


def test_the_mouth_moves_with_the_sound(server: ServerProcess) -> None:
    async def talk(assistant: Assistant) -> None:
        await assistant.until(lambda: len(assistant.pictures) > 5)
        await assistant.socket.send(tone(1.0))
        await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.finished")))
        await assistant.until(lambda: assistant.pictures[-1] * 1920 > assistant.loud[-1][0])

    assistant = with_assistant(server, talk, frames="jpeg")
    loud = {position // 1920 for position, level in assistant.loud if level > LOUD}
    open_frames = {i for i, data in zip(assistant.pictures, assistant.jpegs, strict=True) if mouth(data) > 20}
    middle = sorted(loud)[2:-2]
    assert len(middle) > 15
    shown = set(assistant.pictures) - {min(assistant.pictures)}
    wrong = [i for i in middle if i in shown and i not in open_frames]
    assert len(wrong) <= 2
    assert len([i for i in open_frames if not {i - 1, i, i + 1} & loud]) <= 2


@pytest.mark.parametrize("turns", [4, pytest.param(10, marks=pytest.mark.nightly)])
def test_interrupts_stop_mouth_and_sound_together(server: ServerProcess, turns: int) -> None:
    """At egress: no sound and no open mouth 120 ms after what the event says was the last sample."""

    async def talk(assistant: Assistant) -> None:
        for turn in range(turns):
            await assistant.send(type="utterance.begin", utterance=f"u{turn}")
            await assistant.socket.send(tone(4.0))
            await assistant.send(type="utterance.end")
            await assistant.until(lambda turn=turn: len(assistant.of("playback.started")) > turn)
            seen = len(assistant.pictures)
            await assistant.until(lambda seen=seen, turn=turn: len(assistant.pictures) >= seen + 6 + turn % 4)
            await assistant.send(type="interrupt")
            await assistant.until(lambda turn=turn: len(assistant.of("interrupted")) > turn)
            seen = len(assistant.pictures)
            await assistant.until(lambda seen=seen: len(assistant.pictures) >= seen + 10)

    assistant = with_assistant(server, talk, frames="jpeg")
    cuts = assistant.of("interrupted")
    assert [cut["utterance"] for cut in cuts] == [f"u{turn}" for turn in range(turns)]
    opened = {i: mouth(data) > 20 for i, data in zip(assistant.pictures, assistant.jpegs, strict=True)}
    starts = [event["sample"] * 3 for event in assistant.of("playback.started")] + [1 << 60]
    for cut, following in zip(cuts, starts[1:], strict=True):
        position = cut["sample"] * 3
        after = [level for at, level in assistant.loud if position + 960 <= at < following]
        assert max(after[:10]) < LOUD / 10
        frames = [i for i in opened if position + 5760 <= i * 1920 <= following - 1920]
        assert frames
        late = [(i * 1920 - position) // 48 for i in frames if opened[i]]
        assert late == [], f"the mouth is open {late} ms after sound's end"
        assert cut["played_ms"] > 100
    assert assistant.pictures == sorted(assistant.pictures)
    assert not assistant.of("playback.finished")


def test_what_was_interrupted_before_it_began_is_not_heard(server: ServerProcess) -> None:
    async def talk(assistant: Assistant) -> None:
        for name in ("a", "b"):
            await assistant.send(type="utterance.begin", utterance=name)
            await assistant.socket.send(tone(2.0))
            await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.started")))
        await assistant.send(type="interrupt")
        await assistant.until(lambda: len(assistant.of("interrupted")) == 2)
        await assistant.send(type="utterance.begin", utterance="c")
        await assistant.socket.send(tone(0.4))
        await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.finished")))

    assistant = with_assistant(server, talk)
    cuts = {event["utterance"]: event["played_ms"] for event in assistant.of("interrupted")}
    assert cuts["b"] == 0
    assert [event["utterance"] for event in assistant.of("playback.finished")] == ["c"]


def test_text_is_spoken_where_a_voice_is_installed(server: ServerProcess) -> None:
    if not (shutil.which("flite") or shutil.which("espeak-ng")):
        pytest.skip("neither flite nor espeak-ng is installed")

    async def talk(assistant: Assistant) -> None:
        await assistant.send(type="say", text="Good morning. How are you?", utterance="hello")
        await assistant.until(lambda: bool(assistant.of("playback.finished")))

    assistant = with_assistant(server, talk, frames="jpeg")
    assert assistant.of("playback.finished")[0]["played_ms"] > 700
    assert max(level for _, level in assistant.loud) > LOUD


def test_a_fragmented_mp4_can_be_played(server: ServerProcess) -> None:
    async def talk(assistant: Assistant) -> None:
        await assistant.socket.send(tone(1.5))
        await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.finished")))

    assistant = with_assistant(server, talk, frames="mp4")
    with av.open(io.BytesIO(b"".join(assistant.pieces))) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
        assert "synthetic" in container.metadata["comment"]
        pictures = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(pictures) > 25
    assert np.ptp([255.0 - picture[160:224, 90:166].mean() for picture in pictures]) > 10


REFUSED: tuple[tuple[str | bytes, str], ...] = (
    ("no json", "must be JSON"),
    ("[1]", "must be an object"),
    ('{"type": "sing"}', "unknown message type"),
    ('{"type": "say", "text": ""}', "something to say"),
    ('{"type": "say", "text": "x", "voice": "nobody"}', "no voice"),
    ('{"type": "control", "controls": {"yaw_deg": NaN}}', "nan"),
    ('{"type": "control", "controls": {"colour": 1}}', "colour"),
    ('{"type": "control", "avatar": "nobody"}', "nobody"),
    ('{"type": "utterance.begin", "utterance": 5}', "utterance must be"),
    (b"odd", "odd number"),
)


def test_what_cannot_be_done_is_said_and_the_session_goes_on(server: ServerProcess) -> None:
    async def talk(assistant: Assistant) -> None:
        await assistant.until(lambda: bool(assistant.of("ready")))
        for number, (message, _) in enumerate(REFUSED, 1):
            await assistant.socket.send(message)
            await assistant.until(lambda number=number: len(assistant.of("notice")) == number)
        await assistant.socket.send(tone(0.2))
        await assistant.send(type="utterance.end")
        await assistant.until(lambda: bool(assistant.of("playback.finished")))

    notices = with_assistant(server, talk).of("notice")
    for notice, (message, words) in zip(notices, REFUSED, strict=True):
        assert notice["code"] == "refused", message
        assert words in notice["message"], message


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ({"rate_hz": 44_100}, "bad-start"),
        ({"colour": "red"}, "bad-start"),
        ({"avatar": "nobody"}, "no-such-avatar"),
        ({"session": "7-nothing"}, "no-such-session"),
        ({"session": "0-nothing"}, "no-such-session"),
    ],
)
def test_a_start_that_cannot_be_is_closed_with_its_reason(
    server: ServerProcess, start: dict[str, object], code: str
) -> None:
    async def run() -> tuple[Assistant, ConnectionClosed]:
        assistant = await Assistant.open(server, **start)
        with pytest.raises(ConnectionClosed) as closed:
            await assistant.until(lambda: False)
        return assistant, closed.value

    assistant, closed = asyncio.run(run())
    assert (assistant.events[0]["type"], assistant.events[0]["code"]) == ("error", code)
    assert closed.rcvd is not None
    assert closed.rcvd.code in (1008, 1013)


def test_a_closed_socket_gives_its_place_back(server: ServerProcess) -> None:
    async def run() -> None:
        for _ in range(8):
            assistant = await Assistant.open(server)
            await assistant.until(lambda assistant=assistant: bool(assistant.events))  # type: ignore[misc]
            assert assistant.kinds() == ["ready"]
            await assistant.socket.close()
            async with client(server) as http, asyncio.timeout(10):
                while (await http.get("/readyz")).json()["sessions"]:  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(0.02)

    asyncio.run(run())


def mouth(jpeg: bytes) -> float:
    """How far the stand-in's mouth is open, in rows."""
    with av.open(io.BytesIO(jpeg), format="mjpeg") as container:
        luma = next(container.decode(video=0)).to_ndarray(format="gray")
    return float((luma[:, luma.shape[1] // 2][luma.shape[0] // 2 :] < 50).sum())


@pytest.mark.nightly
def test_an_interrupt_of_a_model_that_cannot_keep_up_ends_nothing() -> None:
    """Half of real time: the model's stream begins anew again and again; interrupts go back no further than that."""

    async def talk(assistant: Assistant) -> None:
        for turn in range(3):
            await assistant.socket.send(tone(4.0))
            await assistant.send(type="utterance.end")
            await assistant.until(lambda turn=turn: len(assistant.of("playback.started")) > turn)
            heard = len(assistant.loud)
            await assistant.until(lambda heard=heard, turn=turn: len(assistant.loud) >= heard + 60 + 25 * turn)
            await assistant.send(type="interrupt")
            await assistant.until(lambda turn=turn: len(assistant.of("interrupted")) > turn)

    slow = "tests.stream_server.fake_pipeline:SlowPipeline"
    with ServerProcess("--max-sessions", "1", pipeline=slow) as server:
        assistant = with_assistant(server, talk, frames="jpeg")
    assert not assistant.of("error")
    assert assistant.pictures == sorted(assistant.pictures)
