"""Everything that reads what others send, given mutated input: it answers with its own errors, or not at all.

A second of CPU time each in the fast suite; `FUZZ_SECONDS=600` (`make fuzz`) is the long run, and `FUZZ_RESULTS` names
the file that its figures go to. What fails is written to `tests/data/fuzz/TARGET/` and tried first from then on.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import wave
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aioice.ice
import numpy as np
import pytest
import torch
from aiortc import RTCConfiguration, RTCPeerConnection
from pydantic import ValidationError

from model.audio_file import read_audio
from model.avatar import DEFAULT_AVATAR, load_avatar
from model.checkpoint import load_checkpoint, save_checkpoint
from model.data.video import ReadSettings, read_video
from model.errors import InputError, ModelError
from model.motion.retarget import Retarget
from model.motion.vae import VaeConfig
from model.motion_stack import ASSETS
from model.speech.log_mel import LogMel, LogMelState
from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.engine.tasks import parse
from stream_server.errors import EngineLostError, OfferError, ProtocolError, RefusedError
from stream_server.events import decode
from stream_server.front.schemas import ControlValues, SessionOffer, Speech
from stream_server.front.speak_socket import SpeakStart
from stream_server.json_text import read_json
from stream_server.media.libopus import LibOpusDecoder, find_libopus
from stream_server.media.media_clock import MediaClock
from stream_server.media.speech_stream import SpeechStream
from stream_server.worker.messages import carry_out
from stream_server.worker.offers import ask_for_redundancy, checked_offer
from stream_server.worker.sinks.peer import PeerHooks, PeerSink
from stream_server.worker.speak_door import _Stream
from stream_server.worker.speaker import Speaker
from tests.support.fuzzing import Fuzzer
from tests.support.video_files import Picture, Sound, even_times, write_video

SECONDS = float(os.environ.get("FUZZ_SECONDS", "1"))
RESULTS = os.environ.get("FUZZ_RESULTS")
FUZZER = Fuzzer(Path(__file__).parents[1] / "data" / "fuzz", SECONDS, Path(RESULTS) if RESULTS else None)
pytestmark = pytest.mark.timeout(120 + 60 * SECONDS)  # of CPU time: a busy machine takes longer
PATIENCE_S = 120  # by the clock on the wall: a starved process is no hang; what spins is found by CPU time
EVENTS = json.loads((Path(__file__).parents[1] / "data" / "events.json").read_text())


def fuzz(
    name: str, seeds: list[bytes], target: Callable[[bytes], object], allowed: tuple[type[Exception], ...]
) -> None:
    """Feed the corpus and mutations of `seeds` for a while; exceptions that are not `allowed` fail."""
    FUZZER.run(name, seeds, target, allowed)


def test_messages_between_processes() -> None:
    bodies: list[tuple[dict[str, Any], bytes]] = [
        ({"type": "hop", "session": "0-a", "generation": 0, "hop": 3, "slot": 1}, bytes(5120)),
        (
            {"type": "open", "session": "0-a", "generation": 0, "seed": 1, "hop": 0, "avatar": "default"}
            | {"controls": {"yaw_deg": 3}, "rewindable": True},
            b"",
        ),
        ({"type": "change", "request": 1, "session": "0-a", "controls": None, "avatar": "x"}, b""),
        ({"type": "rewind", "session": "0-a", "generation": 2, "hop": 5}, b""),
    ]

    def read(data: bytes) -> str:
        async def run() -> protocol.Message:
            reader = asyncio.StreamReader()
            reader.feed_data(data)
            reader.feed_eof()
            return await protocol.read_message(reader)

        body, blob = asyncio.run(run())
        return type(parse(None, body, blob, slots=8, hop_samples=1280)).__name__

    allowed = (ProtocolError, EngineLostError, KeyError, ValueError, TypeError, OverflowError)
    fuzz("protocol", [protocol.pack(*body) for body in bodies], read, allowed)


def test_events() -> None:
    def read(data: bytes) -> str:
        return type(decode(data.decode("utf-8", "replace"))).__name__

    fuzz("events", [json.dumps(event).encode() for event in EVENTS], read, (ProtocolError,))


def test_what_callers_send() -> None:
    models: tuple[Any, ...] = (SessionOffer, SpeakStart, Speech, ControlValues)
    seeds: list[dict[str, Any]] = [
        {"sdp": "v=0", "type": "offer", "avatar": "default", "source": "speech", "controls": {"yaw_deg": 3.5}},
        {"type": "start", "rate_hz": 24000, "frames": "jpeg", "controls": {"gaze_rad": [0.1, 0.2], "mood": "sad"}},
        {"text": "Guten Tag", "voice": "espeak-ng:de", "utterance": "u1"},
    ]

    def read(data: bytes) -> str:
        found = []
        for model in models:
            try:
                value = model.model_validate_json(data)
            except ValidationError as error:
                found += [f"{len(one['loc'])} {one['type']}" for one in error.errors()[:3]]
                continue
            json.dumps(value.model_dump(), allow_nan=False)
            found.append(f"{type(value).__name__} {sorted(value.model_fields_set)}")
        return "".join(found)

    fuzz("callers", [json.dumps(seed).encode() for seed in seeds], read, ())


def test_messages_of_a_session() -> None:
    class NoPlace:
        """A place without a speaker."""

        speaker = None

        class session:  # noqa: N801
            """Takes any change."""

            @staticmethod
            async def change(controls: object, avatar: object) -> None:
                """Nothing."""

            @staticmethod
            def interrupt() -> int:
                """Nothing was said."""
                return 0

    seeds = [{"type": "control", "controls": {"yaw_deg": 1}, "avatar": "x"}, {"type": "interrupt"}]

    def read(data: bytes) -> None:
        with suppress(ValueError):
            message = read_json(data)
            if isinstance(message, dict):
                run_now(carry_out(NoPlace(), message))  # type: ignore[arg-type]

    fuzz("session", [json.dumps(seed).encode() for seed in seeds], read, (RefusedError,))


def run_now(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run what never waits."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_an_assistants_stream() -> None:
    seeds = [
        b't{"type":"utterance.begin","utterance":"u1"}\x1eb' + bytes(960) + b'\x1et{"type":"utterance.end"}',
        b"b" + bytes(64) + b'\x1et{"type":"interrupt"}\x1et{"type":"control","controls":{"yaw_deg":5}}',
        b't{"type":"say","text":"Guten Tag","voice":"none","utterance":"u2"}\x1eb\x01\x02',
    ]

    async def run(data: bytes) -> str:
        session = SimpleNamespace(speech=SpeechStream(MediaClock(48_000)), id="fuzz", emit=None, change=no_change)
        session.interrupt = lambda: len(session.speech.interrupt(0, 0))
        speaker = Speaker(session, ServerConfig())  # type: ignore[arg-type]
        speaker._speak = no_change  # type: ignore[method-assign,assignment]  # no voice is started
        place = SimpleNamespace(session=session, speaker=speaker)
        place.do = lambda message: carry_out(place, message)  # type: ignore[arg-type]
        reader, writer = asyncio.StreamReader(), TakesAll()
        for part in data.split(b"\x1e")[:200]:
            text = {"type": "text", "text": part[1:].decode("utf-8", "replace")}
            reader.feed_data(protocol.pack({"type": "binary"}, part[1:]) if part[:1] == b"b" else protocol.pack(text))
        reader.feed_eof()
        stream = _Stream(place, speaker, 24_000, reader, writer)  # type: ignore[arg-type]
        tasks = [asyncio.create_task(loop) for loop in (stream._carry_out(), stream._push(), stream._write())]
        try:
            async with asyncio.timeout(PATIENCE_S):
                with suppress(EngineLostError):  # the end of what was sent
                    await stream._read()
                for _ in range(50):
                    await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await speaker.close()
        return writer.refusals()

    async def no_change(*_values: object) -> None:
        pass

    fuzz("speak", seeds, lambda data: asyncio.run(run(data)), ())


class TakesAll:
    """Takes what an assistant would get."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> None:
        """Keep it."""
        self._written += data

    async def drain(self) -> None:
        """There is always room."""

    def refusals(self) -> str:
        """The first words of what was refused."""
        told = self._written.decode("utf-8", "replace").split('message\\": \\"')[1:]
        return " ".join(sorted({text[:12] for text in told}))


@pytest.fixture(scope="module")
def offer() -> bytes:
    async def run() -> bytes:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.createDataChannel("events")
        connection.addTransceiver("audio")
        connection.addTransceiver("video", "recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        sdp = connection.localDescription.sdp.encode()
        await connection.close()
        return sdp

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


def test_offers(offer: bytes) -> None:
    def read(data: bytes) -> None:
        text = data.decode("utf-8", "replace")

        async def run() -> None:
            hooks = PeerHooks(lambda: None, lambda _state: None, lambda: None, lambda _text: None)  # type: ignore[arg-type,return-value]
            peer = PeerSink("fuzz", hooks)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await peer.answer(text)
            finally:
                await peer.close()

        ask_for_redundancy(checked_offer(text))
        asyncio.run(run())

    fuzz("offers", [offer], read, (OfferError,))


def test_opus_packets() -> None:
    library = find_libopus()
    decoder = LibOpusDecoder(library)
    rng = np.random.default_rng(0)
    seeds = [bytes([0x78]) + rng.bytes(80), bytes([0x0B]) + rng.bytes(40), b"\xfc\xff\xfe"]

    def read(data: bytes) -> None:
        samples = decoder.decode(data[:1500])
        assert samples is None or len(samples) <= 5760
        assert len(decoder.conceal(data[:1500])) == 960

    fuzz("opus", seeds, read, ())


def test_log_mel() -> None:
    mel = LogMel()
    seeds = [np.random.default_rng(0).normal(0, 0.1, 1280).astype("<f4").tobytes()]

    def read(data: bytes) -> None:
        state = LogMelState()
        columns = mel.push(np.frombuffer(data[: len(data) // 4 * 4], "<f4"), state)
        assert np.isfinite(columns).all()
        assert np.isfinite(mel.push(np.zeros(1280, np.float32), state)).all()

    fuzz("log-mel", seeds, read, (InputError,))


def test_sound_files(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((np.sin(np.arange(3200) / 5) * 8000).astype("<i2").tobytes())
    path = tmp_path / "sound.wav"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        assert np.isfinite(read_audio(path)).all()

    fuzz("sound", [buffer.getvalue()], read, (InputError,))


def test_video_files(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", even_times(26, 25), sound=Sound(duration_s=1.04, clicks_s=(0.5,)))
    webm = write_video(tmp_path / "whole.webm", even_times(26, 25), picture=Picture(codec="libvpx", options=()))
    settings = ReadSettings(max_side_px=64, max_seconds=5.0, need_audio=False, keep_bytes=1 << 24)
    path = tmp_path / "clip.mp4"

    def read(data: bytes) -> str:
        path.write_bytes(data)
        clip = read_video(path, settings)
        frames = sum(frame.shape[2] == 3 for frame in clip.frames())
        assert frames == clip.frame_count <= 126
        return " ".join(note.split(" (")[0] for note in clip.notes)

    fuzz("video", [whole.read_bytes(), webm.read_bytes()], read, (InputError,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("avatar") / "default"
    shutil.copytree(DEFAULT_AVATAR, copy)
    return copy


def test_avatar_folders(folder: Path) -> None:
    names = ("avatar.json", "retarget.safetensors", "field.safetensors")
    good = {name: (folder / name).read_bytes() for name in names}
    head = 1 << 12  # bytes of the large file that change; the rest stays

    def read(data: bytes) -> str:
        name = names[data[0] % 3] if data else names[0]
        (folder / name).write_bytes(data[1:] + (good[name][head:] if name == "field.safetensors" else b""))
        try:
            if name != "retarget.safetensors":
                load_avatar(folder)
            Retarget.load(folder)
        finally:
            (folder / name).write_bytes(good[name])
        return name

    fuzz("avatar", [bytes([place]) + good[name][:head] for place, name in enumerate(names)], read, (ModelError,))


def test_weights(tmp_path: Path) -> None:
    source = ASSETS / "motion_vae.safetensors"
    path = tmp_path / "vae.safetensors"
    data = source.read_bytes()
    seeds = [data[:4096] + data[-4096:], data] if len(data) < 1 << 18 else [data[: 1 << 17]]
    deflated = {"bits": torch.zeros(64, 64, dtype=torch.uint8), "weights": torch.linspace(-1, 1, 4096).half()}
    save_checkpoint(path, deflated, kind="motion-vae", config=VaeConfig())
    seeds.append(path.read_bytes())

    def read(mutation: bytes) -> None:
        path.write_bytes(mutation)
        load_checkpoint(path, kind="motion-vae", config_cls=VaeConfig)

    fuzz("weights", seeds, read, (ModelError,))
