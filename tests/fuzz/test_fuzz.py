"""Everything that reads what others send, given mutated input: it answers with its own errors, or not at all.

A second each in the fast suite; `FUZZ_SECONDS=600` (`make fuzz`) is the long run. What fails is written to
`tests/data/fuzz/TARGET/` and tried first from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import random
import shutil
import time
import wave
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aioice.ice
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from pydantic import ValidationError

from model.audio_file import read_audio
from model.avatar import DEFAULT_AVATAR, load_avatar
from model.checkpoint import load_checkpoint
from model.errors import InputError, ModelError
from model.motion.vae import VaeConfig
from model.motion_stack import ASSETS
from model.speech.log_mel import LogMel, LogMelState
from stream_server.engine import protocol
from stream_server.engine.tasks import parse
from stream_server.errors import EngineLostError, OfferError, ProtocolError, RefusedError
from stream_server.events import decode
from stream_server.front.schemas import ControlValues, SessionOffer, Speech
from stream_server.front.speak_socket import SpeakStart
from stream_server.media.libopus import LibOpusDecoder, find_libopus
from stream_server.worker.messages import carry_out
from stream_server.worker.offers import ask_for_redundancy, checked_offer
from stream_server.worker.sinks.peer import PeerHooks, PeerSink
from tests.support.mutation import mutated

SECONDS = float(os.environ.get("FUZZ_SECONDS", "1"))
CORPUS = Path(__file__).parents[1] / "data" / "fuzz"
EVENTS = json.loads((Path(__file__).parents[1] / "data" / "events.json").read_text())


def fuzz(name: str, seeds: list[bytes], target: Callable[[bytes], None], allowed: tuple[type[Exception], ...]) -> None:
    """Feed mutations of `seeds` for a while; exceptions that are not `allowed` fail, and their input is kept."""
    rng = random.Random(f"{name}{time.time_ns() if SECONDS > 60 else 0}")
    until = time.monotonic() + SECONDS
    kept = [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    tried = 0
    while kept or time.monotonic() < until or tried < 20:
        data = kept.pop() if kept else mutated(seeds, rng)
        tried += 1
        try:
            target(data)
        except allowed:
            continue
        except Exception as error:
            folder = CORPUS / name
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / hashlib.sha256(data).hexdigest()[:16]
            path.write_bytes(data)
            raise AssertionError(f"{name}: {type(error).__name__}: {error}; the input is in {path}") from error


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

    def read(data: bytes) -> None:
        async def run() -> protocol.Message:
            reader = asyncio.StreamReader()
            reader.feed_data(data)
            reader.feed_eof()
            return await protocol.read_message(reader)

        body, blob = asyncio.run(run())
        parse(None, body, blob, slots=8, hop_samples=1280)

    allowed = (ProtocolError, EngineLostError, KeyError, ValueError, TypeError, OverflowError)
    fuzz("protocol", [protocol.pack(*body) for body in bodies], read, allowed)


def test_events() -> None:
    def read(data: bytes) -> None:
        decode(data.decode("utf-8", "replace"))

    fuzz("events", [json.dumps(event).encode() for event in EVENTS], read, (ProtocolError,))


def test_what_callers_send() -> None:
    models: tuple[Any, ...] = (SessionOffer, SpeakStart, Speech, ControlValues)
    seeds: list[dict[str, Any]] = [
        {"sdp": "v=0", "type": "offer", "avatar": "default", "source": "speech", "controls": {"yaw_deg": 3.5}},
        {"type": "start", "rate_hz": 24000, "frames": "jpeg", "controls": {"gaze_rad": [0.1, 0.2], "mood": "sad"}},
        {"text": "Guten Tag", "voice": "espeak-ng:de", "utterance": "u1"},
    ]

    def read(data: bytes) -> None:
        for model in models:
            with suppress(ValidationError):
                value = model.model_validate_json(data)
                json.dumps(value.model_dump(), allow_nan=False)

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
        with suppress(ValueError, RecursionError):
            message = json.loads(data)
            if isinstance(message, dict):
                asyncio.run(carry_out(NoPlace(), message))  # type: ignore[arg-type]

    fuzz("session", [json.dumps(seed).encode() for seed in seeds], read, (RefusedError,))


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
                async with asyncio.timeout(10):
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("avatar") / "default"
    shutil.copytree(DEFAULT_AVATAR, copy)
    return copy


def test_avatar_folders(folder: Path) -> None:
    path = folder / "avatar.json"
    good = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_avatar(folder)

    try:
        fuzz("avatar", [good], read, (ModelError,))
    finally:
        path.write_bytes(good)


def test_weights(tmp_path: Path) -> None:
    source = ASSETS / "motion_vae.safetensors"
    path = tmp_path / "vae.safetensors"
    data = source.read_bytes()
    seeds = [data[:4096] + data[-4096:], data] if len(data) < 1 << 18 else [data[: 1 << 17]]

    def read(mutation: bytes) -> None:
        path.write_bytes(mutation)
        load_checkpoint(path, kind="motion-vae", config_cls=VaeConfig)

    fuzz("weights", seeds, read, (ModelError,))
