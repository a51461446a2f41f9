"""Encoders are chosen by what they make, and refused by what is wrong with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from numpy.typing import NDArray

from stream_server.config import ENCODERS
from stream_server.media.encoder_trial import (
    LEAST_DB,
    SLOWEST_HARDWARE_MS,
    EncoderChoice,
    NoEncoderError,
    Trial,
    choose_encoders,
    rank,
    try_encoder,
)
from stream_server.media.timecode import decode_timecode, draw_timecode
from stream_server.media.video_encoder import KINDS, VIDEO_TIME_BASE, EncoderKind, PictureEncoder, kind_named
from stream_server.worker.egress import Picture
from stream_server.worker.feed import Feed, FeedTrack
from stream_server.worker.sinks.peer import PeerHooks, PeerSink
from tests.stream_server.fake_pipeline import FakePipeline

VP8, X264 = kind_named("libvpx"), kind_named("libx264")
HARDWARE = EncoderKind(name="made_up", codec="H264", options=lambda _bps: {}, hardware=True)
Encode = Callable[..., bytes]


def made_of(encode: Encode) -> Callable[[EncoderKind, int], PictureEncoder]:
    """Encoders whose `encode` is this function of (real encoder, picture, pts, key_frame)."""

    class Candidate(PictureEncoder):
        def encode(self, image: NDArray[np.uint8], pts: int, *, key_frame: bool) -> bytes:
            return encode(super().encode, image, pts, key_frame)

    return Candidate


def test_what_pyav_brings_works_and_vp8_comes_first() -> None:
    choice = choose_encoders()
    assert choice.first.hardware or choice.first == VP8
    tried = {trial.kind.name: trial for trial in choice.trials}
    assert list(tried) == [kind.name for kind in KINDS] == list(ENCODERS[1:])
    for name in ("libvpx", "libx264"):
        assert tried[name].problem == ""
        assert tried[name].ms_per_frame > 0
        assert tried[name].psnr_db > LEAST_DB + 7
    for trial in choice.trials:
        assert (trial.kind in choice.kinds.get(trial.kind.codec, ())) == (trial.problem == "")


def raises(_real: Encode, _image: object, _pts: int, _key: bool) -> bytes:
    raise av.error.ExternalError(1, "no more sessions")


def garbage(_real: Encode, _image: object, pts: int, _key: bool) -> bytes:
    return bytes(np.random.default_rng(pts).integers(0, 256, 900, np.uint8))


def holds_back(real: Encode, image: NDArray[np.uint8], pts: int, key: bool) -> bytes:
    return b"" if pts else real(image, pts, key_frame=key)


def never_a_key(real: Encode, image: NDArray[np.uint8], pts: int, key: bool) -> bytes:
    return real(image, pts, key_frame=key and not pts)


def another_picture(real: Encode, image: NDArray[np.uint8], pts: int, key: bool) -> bytes:
    return real(255 - image, pts, key_frame=key)


@pytest.mark.parametrize("kind", [VP8, X264])
@pytest.mark.parametrize(
    ("encode", "reason"),
    [
        (raises, "no more sessions"),
        (garbage, "decode"),
        (holds_back, "holds frames back"),
        (never_a_key, "no key frame"),
        (another_picture, "does not look like"),
    ],
)
def test_what_is_wrong_is_found_and_said(kind: EncoderKind, encode: Encode, reason: str) -> None:
    trial = try_encoder(kind, make=made_of(encode))
    assert reason in trial.problem
    with pytest.raises(NoEncoderError, match=f"no video encoder works here: {kind.name}: refused: .*{reason}"):
        choose_encoders(candidates=[kind], make=made_of(encode))


def test_one_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def hangs(_real: Encode, _image: object, _pts: int, _key: bool) -> bytes:
        release.wait(30)
        return b""

    try:
        trial = try_encoder(VP8, make=made_of(hangs), timeout_s=0.2)
    finally:
        release.set()
    assert "did not end within" in trial.problem


def test_hardware_comes_first_if_it_is_quick() -> None:
    def choice(hardware_ms: float) -> EncoderChoice:
        return rank([Trial(VP8, "", 3.0, 40.0), Trial(HARDWARE, "", hardware_ms, 40.0), Trial(X264, "", 0.1, 40.0)])

    assert choice(2.0).codecs == ("H264", "VP8")
    assert choice(2.0).kinds == {"H264": (HARDWARE, X264), "VP8": (VP8,)}
    slow = choice(SLOWEST_HARDWARE_MS + 1)
    assert (slow.first, slow.codecs, slow.kinds["H264"]) == (VP8, ("VP8", "H264"), (X264, HARDWARE))


def test_one_that_is_asked_for_is_used_or_it_is_said_why_not() -> None:
    trials = [Trial(VP8, "", 3.0, 40.0), Trial(HARDWARE, "no driver"), Trial(X264, "", 2.0, 40.0)]
    forced = rank(trials, "libx264")
    assert (forced.first, forced.codecs, forced.kinds["VP8"]) == (X264, ("H264", "VP8"), (VP8,))
    with pytest.raises(NoEncoderError, match="encoder made_up does not work here: no driver"):
        rank(trials, "made_up")
    with pytest.raises(NoEncoderError, match="no encoder 'other'; known are auto, libvpx, made_up, libx264"):
        rank(trials, "other")


@pytest.fixture
def track() -> FeedTrack:
    return FeedTrack("video", lambda: None)


def pictures(count: int, size: int = 128) -> list[NDArray[np.uint8]]:
    made = []
    for index in range(count):
        image = FakePipeline(size)._draw(0.05 * (index % 3))
        draw_timecode(image, index)
        made.append(image)
    return made


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_a_feed_goes_on_with_the_next_encoder(track: FeedTrack, codec: Any) -> None:
    """The first cannot be opened, as hardware that has no session left: the picture after that one is a key frame."""
    working = VP8 if codec == "VP8" else X264
    broken = EncoderKind(name="no_such_encoder", codec=codec, options=lambda _bps: {})
    track.codec = codec

    async def run() -> list[int | None]:
        feed = Feed(EncoderChoice((), (codec,), {codec: (broken, working)}), fps=25, bitrate_bps=300_000)
        feed.add(track, None)
        decoder = av.CodecContext.create("vp8" if codec == "VP8" else "h264", "r")
        codes = []
        for index, image in enumerate(pictures(4)):
            feed.on_picture(Picture(index, image, None, index * 40_000_000))
            if index:
                async with asyncio.timeout(20):
                    packet = await track.recv()
                (frame,) = decoder.decode(packet)  # type: ignore[attr-defined]
                codes.append(decode_timecode(frame.to_ndarray()[:128]))
        await feed.close()
        return codes

    assert asyncio.run(run()) == [1, 2, 3]


@pytest.mark.parametrize("order", [("VP8", "H264"), ("H264", "VP8")])
def test_viewers_of_both_codecs_share_a_feed(order: tuple[Any, Any]) -> None:
    async def run() -> list[tuple[int, ...]]:
        feed = Feed(EncoderChoice((), order, {"VP8": (VP8,), "H264": (X264,)}), fps=25, bitrate_bps=300_000)
        tracks = [FeedTrack("video", lambda: None) for _ in order]
        for track, codec in zip(tracks, order, strict=True):
            track.codec = codec
            feed.add(track, None)
        decoders = {"VP8": av.CodecContext.create("vp8", "r"), "H264": av.CodecContext.create("h264", "r")}
        shapes = []
        for index, image in enumerate(pictures(2)):
            feed.on_picture(Picture(index, image, None, index * 40_000_000))
            for track in tracks:
                async with asyncio.timeout(20):
                    packet = await track.recv()
                assert packet.time_base == VIDEO_TIME_BASE
                (frame,) = decoders[track.codec].decode(packet)  # type: ignore[attr-defined]
                shapes.append((frame.width, frame.height))
        await feed.close()
        return shapes

    assert asyncio.run(run()) == [(128, 128)] * 4


def answered(offered: tuple[str, ...], ours: tuple[Any, ...]) -> list[str]:
    """Codecs of the answer's picture, in order, to an offer of these."""

    async def run() -> str:
        caller = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        caller.addTransceiver("audio")
        picture = caller.addTransceiver("video", "recvonly")
        known = RTCRtpSender.getCapabilities("video").codecs
        picture.setCodecPreferences([codec for name in offered for codec in known if codec.mimeType == f"video/{name}"])
        await caller.setLocalDescription(await caller.createOffer())
        hooks = PeerHooks(lambda: None, lambda _state: None, lambda: (), lambda _text: None)
        peer = PeerSink("x", hooks, codecs=ours)
        try:
            return await peer.answer(caller.localDescription.sdp)
        finally:
            await peer.close()
            await caller.close()

    section = asyncio.run(run()).partition("m=video")[2].splitlines()
    names = {
        line.split()[0].partition(":")[2]: line.split()[1].partition("/")[0] for line in section if "rtpmap" in line
    }
    return list(dict.fromkeys(names[number] for number in section[0].split()[2:]))


def test_the_answer_names_first_what_is_sent() -> None:
    """Safari offers H.264 first; what is sent must be what the answer's first codec says."""
    assert answered(("H264", "VP8"), ("VP8",)) == ["VP8"]
    assert answered(("H264", "VP8"), ("VP8", "H264"))[0] == "VP8"
    assert answered(("VP8", "H264"), ("H264", "VP8"))[0] == "H264"
    assert answered(("VP8",), ("H264", "VP8")) == ["VP8"]
