"""The time code survives VP8 and H.264 at the rates we send."""

from __future__ import annotations

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from stream_server.media.timecode import decode_timecode, draw_timecode, strip_height_px
from stream_server.media.video_encoder import EncoderKind, PictureEncoder, kind_named
from stream_server.worker import aiortc_bridge
from tests.stream_server.fake_pipeline import FakePipeline


@given(st.integers(0, 2**32 - 1), st.sampled_from([128, 192, 256, 512]))
def test_there_and_back(index: int, size: int) -> None:
    frame = np.full((size * 3 // 2, size), 90, np.uint8)
    draw_timecode(frame, index)
    assert decode_timecode(frame[:size]) == index


@pytest.mark.parametrize("value", [0, 16, 128, 235, 255])
def test_a_flat_picture_has_no_code(value: int) -> None:
    assert decode_timecode(np.full((256, 256), value, np.uint8)) is None


def through_rtp(kind: EncoderKind, encoded: bytes, index: int) -> bytes:
    if kind.codec == "H264":
        return b"".join(map(h264_depayload, aiortc_bridge.packetize_h264(encoded)))
    payloads = aiortc_bridge.packetize_vp8(encoded, index)
    return b"".join(VpxPayloadDescriptor.parse(payload)[1] for payload in payloads)


@pytest.mark.parametrize("size", [128, 192, 256])
@pytest.mark.parametrize(("encoder", "decoder_name"), [("libvpx", "libvpx"), ("libx264", "h264")])
def test_through_an_encoder(size: int, encoder: str, decoder_name: str) -> None:
    codec = PictureEncoder(kind_named(encoder), 700_000 * size**2 // 256**2)
    decoder = av.CodecContext.create(decoder_name, "r")
    pipeline = FakePipeline(size)
    rng = np.random.default_rng(0)
    for index in range(100):
        image = pipeline._draw(rng.uniform(0.0, 0.2))
        draw_timecode(image, index * 37)
        encoded = codec.encode(image, index * 3600, key_frame=index == 0)
        (decoded,) = decoder.decode(av.Packet(through_rtp(codec.kind, encoded, index)))
        assert decode_timecode(decoded.to_ndarray()[:size]) == index * 37


def test_the_strip_leaves_the_face_alone() -> None:
    assert [strip_height_px(size) for size in (128, 192, 256)] == [24, 16, 16]
