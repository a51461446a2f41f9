"""A session's pictures and sound, encoded once, for any number of viewers."""

from __future__ import annotations

import asyncio
import fractions
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame
from av.audio.codeccontext import AudioCodecContext
from av.packet import Packet

from stream_server.media.encoder_trial import EncoderChoice
from stream_server.media.media_clock import NS_PER_S
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ
from stream_server.media.video_encoder import CLOCK_HZ, VIDEO_TIME_BASE, EncoderKind, PictureEncoder, VideoCodec
from stream_server.worker.egress import Listener, Picture, Sound

__all__ = ["Feed", "FeedTrack"]

log = logging.getLogger(__name__)

_SOUND_TIME_BASE = fractions.Fraction(1, RATE_HZ)
_KEY_FRAME_GAP_S = 0.3
_WAITING_PICTURES = 3
_OPUS_BPS = 64_000
RUNGS = (1.0, 0.5, 0.25)
"""Shares of the full bitrate. Each rung has its own encoder while someone watches at it: none is ever rebuilt."""


class FeedTrack(MediaStreamTrack):
    """Hands a sender the packets of a feed. When `capacity` wait, the oldest go, and `on_gap` is called.

    `codec` is what its viewer takes.

    Times count from the track's first packet, and go on without a jump when it is given another feed's packets.
    """

    def __init__(self, kind: str, on_gap: Callable[[], None], *, capacity: int = 25) -> None:
        super().__init__()
        self.kind = kind
        self.codec: VideoCodec = "VP8"
        self._on_gap = on_gap
        self._packets: asyncio.Queue[Packet[Any] | None] = asyncio.Queue(capacity)
        self._rate_hz = CLOCK_HZ if kind == "video" else RATE_HZ
        self._began_s: float | None = None
        self._source: object = None
        self._offset = 0

    def put(self, source: object, data: bytes, pts: int, time_base: fractions.Fraction) -> None:
        """Give the track one encoded frame of a feed."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        if source is not self._source:
            self._source = source
            self._offset = int((now_s - self._began_s) * self._rate_hz) - pts
        packet: Packet[Any] = Packet(data)
        packet.pts, packet.time_base = pts + self._offset, time_base
        if self._packets.full():
            while not self._packets.empty():
                self._packets.get_nowait()
            self._on_gap()
            if self.kind == "video":
                return  # what follows could not be decoded before the next key frame
        self._packets.put_nowait(packet)

    async def recv(self) -> Packet[Any]:
        """The next packet, when there is one."""
        packet = await self._packets.get() if self.readyState == "live" else None
        if packet is None:
            raise MediaStreamError
        return packet

    def stop(self) -> None:
        """End; who waits for a packet gets MediaStreamError."""
        super().stop()
        if self._packets.full():
            self._packets.get_nowait()
        self._packets.put_nowait(None)


class _Rung:
    """One codec at one bitrate: its encoder, what may take its place, and who watches."""

    def __init__(self, kinds: Sequence[EncoderKind], bitrate_bps: int) -> None:
        self.encoder = PictureEncoder(kinds[0], bitrate_bps)
        self._others = list(kinds[1:])
        self.viewers: list[FeedTrack] = []
        self.key_wanted = True
        self.key_sent_s = -1.0

    def wants_key(self, now_s: float) -> bool:
        """Whether a key frame is due; at most one every 0.3 s."""
        if not self.key_wanted or now_s - self.key_sent_s < _KEY_FRAME_GAP_S:
            return False
        self.key_wanted, self.key_sent_s = False, now_s
        return True

    def fall_back(self) -> None:
        """The encoder failed, as hardware does that serves so many and no more: go on with the next one, if any."""
        failed = self.encoder
        failed.close()
        self.key_wanted = True
        if self._others:
            self.encoder = PictureEncoder(self._others.pop(0), failed.bitrate_bps)
            log.warning("%s failed; %s goes on", failed.kind.name, self.encoder.kind.name)


class Feed(Listener):
    """Encodes while someone watches, in each codec that someone takes. `fps` and `bitrate_bps` are of the full rung.

    Pictures are stamped with when their turn came, not with their index: browsers fit one line through all that ever
    came, stamps against arrivals, and would show each picture too late, for minutes, once the playout delay has fallen.
    Sound is stamped with its position, as its decoder counts samples; sender reports tell which belong together.
    """

    def __init__(self, encoders: EncoderChoice, *, fps: int, bitrate_bps: int) -> None:
        self._fps = fps
        self._rates_bps = [int(bitrate_bps * share) for share in RUNGS]
        self._ladders = {
            codec: [_Rung(kinds, rate_bps) for rate_bps in self._rates_bps] for codec, kinds in encoders.kinds.items()
        }
        self._rungs = [rung for ladder in self._ladders.values() for rung in ladder]
        self._sounds: list[FeedTrack] = []
        self._opus: AudioCodecContext | None = None
        self._pictures: asyncio.Queue[Picture] = asyncio.Queue(_WAITING_PICTURES)
        self._task: asyncio.Task[None] | None = None
        self._latest: Picture | None = None
        self._stamp = -1
        self.skipped = 0
        """Pictures that were not encoded because the encoder was behind."""

    def add(self, video: FeedTrack, sound: FeedTrack | None) -> None:
        """A viewer joins, at the full rung."""
        rung = self._ladders[video.codec][0]
        rung.viewers.append(video)
        rung.key_wanted = True
        if sound is not None:
            self._sounds.append(sound)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="feed")
        if self._latest is not None and self._pictures.empty():
            self._pictures.put_nowait(self._latest)

    def remove(self, video: FeedTrack, sound: FeedTrack | None) -> None:
        """A viewer leaves; idempotent."""
        for rung in self._rungs:
            if video in rung.viewers:
                rung.viewers.remove(video)
        if sound is not None and sound in self._sounds:
            self._sounds.remove(sound)

    def move(self, video: FeedTrack, rung: int) -> None:
        """A viewer goes on at another rung, with a key frame."""
        for other in self._rungs:
            if video in other.viewers:
                other.viewers.remove(video)
                self._ladders[video.codec][rung].viewers.append(video)
                self._ladders[video.codec][rung].key_wanted = True
                return

    def want_key(self, video: FeedTrack) -> None:
        """A viewer cannot go on without a key frame."""
        for rung in self._rungs:
            if video in rung.viewers:
                rung.key_wanted = True

    def bitrate_bps(self, rung: int) -> int:
        """Of a rung."""
        return self._rates_bps[rung]

    def on_picture(self, picture: Picture) -> None:
        """Queue it for the encoder; the oldest that waits goes if it is behind."""
        self._latest = picture
        if not any(rung.viewers for rung in self._rungs):
            return
        if self._pictures.full():
            self._pictures.get_nowait()
            self.skipped += 1
        self._pictures.put_nowait(picture)

    def on_sound(self, sound: Sound) -> None:
        """Encode it and hand it out."""
        if not self._sounds:
            return
        if self._opus is None:
            self._opus = _open_opus()
        frame = AudioFrame.from_ndarray(sound.samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, sound.position, _SOUND_TIME_BASE
        data = b"".join(bytes(packet) for packet in self._opus.encode(frame))
        if data:
            for track in self._sounds:
                track.put(self, data, sound.position, _SOUND_TIME_BASE)

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._opus = None
        for rung in self._rungs:
            rung.encoder.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            picture = await self._pictures.get()
            pts = picture.index * CLOCK_HZ // self._fps
            self._stamp = max(self._stamp + 1, picture.turn_ns * CLOCK_HZ // NS_PER_S)
            for rung in self._rungs:
                if not rung.viewers:
                    continue
                key = rung.wants_key(loop.time())
                try:
                    data = await loop.run_in_executor(None, _encode, rung.encoder, picture, pts, key)
                except (av.FFmpegError, ValueError):
                    log.exception("a picture could not be encoded")
                    rung.fall_back()
                    continue
                for track in rung.viewers if data else ():
                    track.put(self, data, self._stamp, VIDEO_TIME_BASE)


def _encode(encoder: PictureEncoder, picture: Picture, pts: int, key: bool) -> bytes:
    return encoder.encode(picture.image, pts, key_frame=key)


def _open_opus() -> AudioCodecContext:
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate = RATE_HZ
    codec.layout = "mono"
    codec.format = "s16"
    codec.bit_rate = _OPUS_BPS
    codec.time_base = _SOUND_TIME_BASE
    codec.options = {"application": "voip", "frame_duration": "20", "fec": "1", "packet_loss": "5"}
    assert BLOCK_SAMPLES * 50 == RATE_HZ
    return codec
