"""Pictures and sound for clients without WebRTC: JPEG and PCM messages, or one fragmented MP4.

A binary message is a byte (1: JPEG picture, 2: 20 ms of mono PCM16 at 48 kHz, 3: a piece of fragmented MP4), three
zero bytes, the index of the picture or the position of the sound as a big-endian 32-bit number, and the data.
"""

from __future__ import annotations

import asyncio
import fractions
import io
import logging
import struct
from collections.abc import Callable
from typing import Any, Literal

import av
import numpy as np
from av import AudioFrame, VideoFrame
from av.video.codeccontext import VideoCodecContext

from stream_server.media.opus import RATE_HZ
from stream_server.worker.egress import Listener, Picture, Sound

__all__ = ["FragmentedMp4", "FrameFormat", "SocketMedia"]

log = logging.getLogger(__name__)

FrameFormat = Literal["jpeg", "mp4"]
_HEADER = struct.Struct(">BxxxI")
_JPEG, _PCM, _MP4 = 1, 2, 3
_WAITING = 100


class SocketMedia(Listener):
    """Encodes in a thread, in order; what `send` does not take is dropped there."""

    def __init__(self, frames: FrameFormat, send: Callable[[bytes], bool], avatar: dict[str, Any]) -> None:
        self._send = send
        size, fps = int(avatar["size"]), int(avatar["fps"])
        self._encoder: _Jpegs | FragmentedMp4 = _Jpegs() if frames == "jpeg" else FragmentedMp4(size=size, fps=fps)
        self._items: asyncio.Queue[Picture | Sound] = asyncio.Queue(_WAITING)
        self._task = asyncio.create_task(self._run(), name="socket-media")

    def on_picture(self, picture: Picture) -> None:
        """Queue it; dropped if the encoder is far behind."""
        self._queue(picture)

    def on_sound(self, sound: Sound) -> None:
        """Likewise."""
        self._queue(sound)

    async def close(self) -> None:
        """Stop; idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _queue(self, item: Picture | Sound) -> None:
        if not self._items.full():
            self._items.put_nowait(item)

    async def _run(self) -> None:
        try:
            while True:
                item = await self._items.get()
                for data in await asyncio.to_thread(self._encoder.encode, item):
                    self._send(data)
        except asyncio.CancelledError:
            raise
        except Exception:  # this sink ends; the session goes on
            log.exception("pictures for a WebSocket cannot be encoded")


class _Jpegs:
    """One message per picture, one per 20 ms."""

    def __init__(self) -> None:
        self._codec: VideoCodecContext | None = None

    def encode(self, item: Picture | Sound) -> list[bytes]:
        """The messages of one picture or block."""
        if isinstance(item, Sound):
            return [_HEADER.pack(_PCM, item.position & 0xFFFFFFFF) + item.samples.astype("<i2").tobytes()]
        frame = VideoFrame.from_ndarray(item.image, format="yuv420p").reformat(format="yuvj420p")
        if self._codec is None:
            self._codec = av.CodecContext.create("mjpeg", "w")
            self._codec.width, self._codec.height = frame.width, frame.height
            self._codec.pix_fmt, self._codec.time_base = "yuvj420p", fractions.Fraction(1, 25)
            self._codec.options = {"qmin": "3", "qmax": "6"}
        frame.pts, frame.time_base = item.index, fractions.Fraction(1, 25)
        data = b"".join(bytes(packet) for packet in self._codec.encode(frame))
        return [_HEADER.pack(_JPEG, item.index & 0xFFFFFFFF) + data]


class FragmentedMp4:
    """H.264 and AAC in fragments of half a second, playable as they come (Media Source Extensions) or as a file."""

    def __init__(self, *, size: int, fps: int, crf: int = 20) -> None:
        self._buffer = _Pieces()
        flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"}
        self._container = av.open(self._buffer, "w", format="mp4", options=flags)
        video = self._container.add_stream("libx264", rate=fps)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf), "g": str(fps // 2)}
        video.codec_context.thread_count = 1
        self._container.metadata["comment"] = "synthetic: rendered by NeRF-LipSync"
        self._sound = self._container.add_stream("aac", rate=RATE_HZ)
        self._sound.codec_context.layout = "mono"
        self._video = video
        self._fps = fps
        self._first_index: int | None = None
        self._first_position: int | None = None

    def encode(self, item: Picture | Sound) -> list[bytes]:
        """What the file has grown by, as messages."""
        data = self.encode_file(item)
        return [_HEADER.pack(_MP4, 0) + data] if data else []

    def encode_file(self, item: Picture | Sound) -> bytes:
        """What the file has grown by."""
        if isinstance(item, Picture):
            self._first_index = item.index if self._first_index is None else self._first_index
            frame = VideoFrame.from_ndarray(item.image, format="yuv420p")
            frame.pts, frame.time_base = item.index - self._first_index, fractions.Fraction(1, self._fps)
            self._container.mux(self._video.encode(frame))
        elif self._first_index is not None:
            self._first_position = item.position if self._first_position is None else self._first_position
            sound = AudioFrame.from_ndarray(np.ascontiguousarray(item.samples)[None], format="s16", layout="mono")
            sound.sample_rate, sound.pts = RATE_HZ, item.position - self._first_position
            sound.time_base = fractions.Fraction(1, RATE_HZ)
            self._container.mux(self._sound.encode(sound))
        return self._buffer.take()

    def finish(self) -> bytes:
        """The rest of the file."""
        for stream in (self._video, self._sound):
            self._container.mux(stream.encode(None))
        self._container.close()
        return self._buffer.take()


class _Pieces(io.RawIOBase):
    """A file that only grows, and gives away what it has."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Keep a copy."""
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """All that was written since the last call."""
        data, self._parts = b"".join(self._parts), []
        return data
