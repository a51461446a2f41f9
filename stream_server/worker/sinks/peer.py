"""An aiortc peer: microphone and data channel in, picture, sound and events out."""

from __future__ import annotations

import fractions
import logging
from collections.abc import Callable

import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray

from stream_server.errors import OfferError
from stream_server.events import Event, PositionEvent, ReadyEvent, encode
from stream_server.media.media_clock import NS_PER_MS, NS_PER_S
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ
from stream_server.media.timecode import draw_timecode
from stream_server.media.trace import TraceMeter
from stream_server.worker import aiortc_bridge
from stream_server.worker.session import AvatarSession
from stream_server.worker.vp8_encoder import Vp8Encoder

__all__ = ["PeerSink"]

log = logging.getLogger(__name__)

_VIDEO_TIME_BASE = fractions.Fraction(1, 90_000)
_SOUND_TIME_BASE = fractions.Fraction(1, RATE_HZ)
_WAIT_FOR_LATE_FRAME_S = 0.015
_CHANNEL = "events"
_MOST_BUFFERED_EVENTS = 65_536  # bytes


class VideoTrack(MediaStreamTrack):
    """Frames at their time. A starved track repeats its last frame; frames that came too late were dropped."""

    kind = "video"

    def __init__(self, session: AvatarSession, *, timecode: bool, emit: Callable[[Event], None]) -> None:
        super().__init__()
        self._session = session
        self._timecode = timecode
        self._emit = emit
        self._meter = TraceMeter(session.algorithmic_ms)
        self._index: int | None = None
        self._last: NDArray[np.uint8] | None = None
        self._frame_ns = NS_PER_S // int(session.avatar["fps"])

    async def recv(self) -> VideoFrame:
        """The next frame, at its time."""
        while self.readyState == "live":
            index = await self._wait_for_turn()
            try:
                frame = self._take(index)
            except Exception as error:  # a session's loop: ends only this session
                self._session.fail()
                raise MediaStreamError from error
            if frame is not None:
                return frame
        raise MediaStreamError

    async def _wait_for_turn(self) -> int:
        session = self._session
        await session.wait_for_turn(0)
        index = 0 if self._index is None else self._index + 1
        behind = (session.now_ns() - session.due_ns(session.frame_position(index))) // self._frame_ns
        index += max(0, behind)
        await session.wait_for_turn(session.frame_position(index))
        await session.wait_for_frame(index, _WAIT_FOR_LATE_FRAME_S)
        self._index = index
        return index

    def _take(self, index: int) -> VideoFrame | None:
        session = self._session
        now_ns = session.now_ns()
        timed = session.frames.take(index)
        if timed is not None:
            if self._timecode:
                draw_timecode(timed.image, index)
            self._last = timed.image
            middle = session.frame_position(index) + session.frame_position(1) // 2
            self._meter.sent(timed, session.clock.time_ns(middle), now_ns)
            session.counters.frames_sent += 1
        elif self._last is None:
            return None
        else:
            session.counters.frames_repeated += 1
        self._report(index, now_ns)
        frame = VideoFrame.from_ndarray(self._last, format="yuv420p")
        frame.pts = index * 90_000 // int(session.avatar["fps"])
        frame.time_base = _VIDEO_TIME_BASE
        return frame

    def _report(self, index: int, now_ns: int) -> None:
        session = self._session
        timing = self._meter.report(now_ns, session.counters, session.frames.dropped)
        if timing is None:
            return
        self._emit(timing)
        position = session.frame_position(index)
        levels = list(session.levels) if self._timecode else []
        levels_from = (session.sound.end - len(levels) * BLOCK_SAMPLES) // 3 if levels else 0
        self._emit(PositionEvent(frame=index, sample=position // 3, levels_from=levels_from, levels=levels))


class SoundTrack(MediaStreamTrack):
    """The caller's own sound, delayed to leave with the frames it belongs to, in packets of 20 ms."""

    kind = "audio"

    def __init__(self, session: AvatarSession) -> None:
        super().__init__()
        self._session = session
        self._position: int | None = None

    async def recv(self) -> AudioFrame:
        """The next 20 ms, at their time."""
        session = self._session
        if self.readyState != "live":
            raise MediaStreamError
        await session.wait_for_turn(0)
        position = 0 if self._position is None else self._position + BLOCK_SAMPLES
        behind_ns = session.now_ns() - session.due_ns(position)
        if behind_ns > 200 * NS_PER_MS:
            position += behind_ns // (20 * NS_PER_MS) * BLOCK_SAMPLES
        await session.wait_for_turn(position)
        self._position = position
        samples, missing = session.sound.read(position, BLOCK_SAMPLES)
        session.counters.audio_missing += missing
        frame = AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = position
        frame.time_base = _SOUND_TIME_BASE
        return frame


class PeerSink:
    """One peer connection for one session."""

    def __init__(self, session: AvatarSession, *, timecode: bool, bitrate_bps: int, on_end: Callable[[], None]) -> None:
        self._session = session
        self._on_end = on_end
        self._bitrate_bps = bitrate_bps
        self._channel: RTCDataChannel | None = None
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._sound = SoundTrack(session)
        self._video = VideoTrack(session, timecode=timecode, emit=self.emit)
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", self._channel_opened)
        self._connection.on("track", self._track_came)

    async def answer(self, sdp: str) -> str:
        """Take an offer, give the answer with all candidates.

        Raises:
            OfferError: The offer is no SDP, or has no place for picture or sound.
        """
        offer = RTCSessionDescription(aiortc_bridge.strip_unresolvable_candidates(sdp), "offer")
        try:
            for track in (self._sound, self._video):
                sender = self._connection.addTrack(track)
                aiortc_bridge.set_media_stream_id(sender, f"avatar-{self._session.id}")
                if track is self._video:
                    aiortc_bridge.use_encoder(sender, Vp8Encoder(self._bitrate_bps))
            await self._connection.setRemoteDescription(offer)
            self._prefer_vp8()
            answer = await self._connection.createAnswer()
            await self._connection.setLocalDescription(answer)
        except (ValueError, KeyError, IndexError, AttributeError, AssertionError) as error:
            raise OfferError(f"cannot answer this offer: {type(error).__name__}: {error}") from error
        kinds = [transceiver.kind for transceiver in self._connection.getTransceivers() if transceiver.mid]
        if sorted(kinds) != ["audio", "video"]:
            raise OfferError(f"the offer needs one audio and one video section, got {kinds}")
        return str(self._connection.localDescription.sdp)

    def emit(self, event: Event) -> None:
        """Send an event if the channel is open and not clogged."""
        channel = self._channel
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount < _MOST_BUFFERED_EVENTS:
            channel.send(encode(event))

    async def close(self) -> None:
        """Close the connection; idempotent."""
        self._sound.stop()
        self._video.stop()
        await self._connection.close()

    def _prefer_vp8(self) -> None:
        vp8 = [c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType in ("video/VP8", "video/rtx")]
        for transceiver in self._connection.getTransceivers():
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(vp8)

    def _track_came(self, track: MediaStreamTrack) -> None:
        for transceiver in self._connection.getTransceivers():
            if track.kind == "audio" and transceiver.receiver.track is track:
                aiortc_bridge.tap_audio_packets(transceiver.receiver, self._session.on_packet)

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label != _CHANNEL:
            return
        self._channel = channel
        avatar = self._session.avatar
        ready = ReadyEvent(
            session=self._session.id,
            avatar=avatar["name"],
            size=avatar["size"],
            fps=avatar["fps"],
            algorithmic_ms=self._session.algorithmic_ms,
        )
        self.emit(ready)

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected":
            self._session.start()
        elif state in ("failed", "closed"):
            self._on_end()
