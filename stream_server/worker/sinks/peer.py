"""An aiortc peer: microphone and data channels in, picture, sound and events out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamTrack

from stream_server.errors import OfferError
from stream_server.events import Event, encode
from stream_server.media.video_encoder import VideoCodec
from stream_server.worker import aiortc_bridge
from stream_server.worker.egress import Listener, Picture
from stream_server.worker.feed import Feed, FeedTrack
from stream_server.worker.ladder import Ladder
from stream_server.worker.offers import ask_for_redundancy, check_sections, checked_offer, section_kinds
from stream_server.worker.packer import FramePacker

__all__ = ["PeerHooks", "PeerSink"]

log = logging.getLogger(__name__)

_EVENTS, _MOTION = "events", "motion"
_MOST_BUFFERED_EVENTS = 65_536  # bytes
_MOST_BUFFERED_MOTION = 8_192
_MOST_MESSAGE = 16_384
_REFUSED_BY_AIORTC = (
    *(OperationError, InvalidAccessError, InvalidStateError),
    *(ValueError, LookupError, AttributeError, AssertionError, TypeError, RuntimeError),  # met in its parser
)
_MESSAGES_PER_S, _MESSAGE_BURST = 60.0, 60.0
_REPORT_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class PeerHooks:
    """What a peer tells its owner. `on_packet` None: no microphone is wanted, as of a viewer."""

    on_connected: Callable[[], None]
    on_end: Callable[[str], None]
    """With the state that ended it: "failed" (the network went away) or "closed" (the peer hung up)."""
    greeting: Callable[[], Sequence[Event]]
    """What is said when the events channel opens."""
    on_message: Callable[[str], None]
    on_packet: Callable[[int, bytes], None] | None = None


class PeerSink(Listener):
    """One peer connection that shows one feed at a time."""

    def __init__(
        self,
        stream_id: str,
        hooks: PeerHooks,
        *,
        codecs: Sequence[VideoCodec] = ("VP8",),
        sends: Sequence[str] = ("audio", "video"),
    ) -> None:
        self._stream_id = stream_id
        self._hooks = hooks
        self._sends = sends
        self._codecs = codecs
        self._feed: Feed | None = None
        self._channels: dict[str, RTCDataChannel] = {}
        self._allowance, self._allowed_s = _MESSAGE_BURST, time.monotonic()
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._sound = FeedTrack("audio", lambda: None)
        self._video = FeedTrack("video", self._want_key)
        self._packer = FramePacker(self._want_key, self._estimate)
        self._ladder = Ladder()
        self._connected, self._hears = False, True
        self._reports: asyncio.Task[None] | None = None
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", self._channel_opened)
        self._connection.on("track", self._track_came)

    async def answer(self, sdp: str) -> str:
        """Take an offer, give the answer with all candidates.

        Raises:
            OfferError: The offer is no SDP, or has no place for picture or sound.
        """
        offer = RTCSessionDescription(checked_offer(sdp), "offer")
        check_sections(section_kinds(sdp), self._sends)
        try:
            for track in (self._sound, self._video):
                if track.kind in self._sends:
                    self._add(track)
            await self._connection.setRemoteDescription(offer)
            answer = await self._connection.createAnswer()
            await self._connection.setLocalDescription(answer)
            self._learn_codec()
        except _REFUSED_BY_AIORTC as error:
            raise OfferError(f"cannot answer this offer: {type(error).__name__}: {error}") from error
        check_sections([t.kind for t in self._connection.getTransceivers() if t.mid], self._sends)
        return ask_for_redundancy(str(self._connection.localDescription.sdp))

    def show(self, feed: Feed | None, *, sound: bool = True) -> None:
        """From now on the peer sees this feed, and hears it unless `sound` is False; None: nothing."""
        if self._feed is not None:
            self._feed.remove(self._video, self._sound)
        self._feed, self._hears = feed, sound
        if feed is not None and self._connected:
            feed.add(self._video, self._sound if sound else None)
            if self._ladder.rung:  # its line is no better for another feed
                feed.move(self._video, self._ladder.rung)

    def emit(self, event: Event) -> None:
        """Send an event if the channel is open and not clogged."""
        self.send_text(encode(event))

    def send_text(self, text: str) -> None:
        """Send a message of the events channel."""
        self._send(_EVENTS, text, _MOST_BUFFERED_EVENTS)

    def on_picture(self, picture: Picture) -> None:
        """Send the picture's motion, if the peer opened the channel for it."""
        if picture.motion is None or _MOTION not in self._channels:
            return
        values = [round(float(value), 4) for value in picture.motion]
        body = {"v": 1, "frame": picture.index, "arkit": values[:-3], "head_deg": values[-3:]}
        self._send(_MOTION, json.dumps(body), _MOST_BUFFERED_MOTION)

    async def close(self) -> None:
        """Close the connection; idempotent."""
        self.show(None)
        if self._reports is not None:
            self._reports.cancel()
            await asyncio.gather(self._reports, return_exceptions=True)
        self._sound.stop()
        self._video.stop()
        await aiortc_bridge.close_connection(self._connection)

    async def _report(self) -> None:
        """Tell the peer often which times of sound and picture belong together: the playout delay moves."""
        with contextlib.suppress(ConnectionError):
            while True:
                await asyncio.sleep(_REPORT_EVERY_S)
                for sender in self._connection.getSenders():
                    await aiortc_bridge.send_report(sender)

    def _add(self, track: FeedTrack) -> None:
        sender = self._connection.addTrack(track)
        aiortc_bridge.set_media_stream_id(sender, self._stream_id)
        if track is self._video:
            self._packer.sender = sender
            aiortc_bridge.use_encoder(sender, self._packer)
            self._prefer_codecs()

    def _send(self, name: str, text: str, most_buffered: int) -> None:
        channel = self._channels.get(name)
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount < most_buffered:
            channel.send(text)

    def _want_key(self) -> None:
        if self._feed is not None:
            self._feed.want_key(self._video)

    def _estimate(self, bps: int) -> None:
        """The receiver's estimate of what its line holds."""
        feed = self._feed
        if feed is not None and (rung := self._ladder.observe(bps, feed.bitrate_bps, time.monotonic())) is not None:
            log.info("a viewer goes on at %d b/s: its line holds %d", feed.bitrate_bps(rung), bps)
            feed.move(self._video, rung)

    def _prefer_codecs(self) -> None:
        """Before the offer is taken in: aiortc would else send by the first codec of the offer that it knows."""
        known = RTCRtpSender.getCapabilities("video").codecs
        ours = [codec for name in self._codecs for codec in known if codec.mimeType == f"video/{name}"]
        ours += [codec for codec in known if codec.mimeType == "video/rtx"]
        for transceiver in self._connection.getTransceivers():
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(ours)

    def _learn_codec(self) -> None:
        for transceiver in self._connection.getTransceivers():
            if transceiver.kind == "video" and "video" in self._sends:
                name = aiortc_bridge.negotiated_codec(transceiver)
                codec = next((codec for codec in self._codecs if codec == name), None)
                if codec is None:
                    raise OfferError(f"none of our video codecs is in the offer: {', '.join(self._codecs)}")
                self._packer.codec = self._video.codec = codec

    def _track_came(self, track: MediaStreamTrack) -> None:
        for transceiver in self._connection.getTransceivers():
            if track.kind == "audio" and transceiver.receiver.track is track and self._hooks.on_packet is not None:
                aiortc_bridge.tap_audio_packets(transceiver.receiver, self._hooks.on_packet)

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label not in (_EVENTS, _MOTION):
            return
        self._channels[channel.label] = channel
        if channel.label == _EVENTS:
            channel.on("message", self._message_came)
            for event in self._hooks.greeting():
                self.emit(event)

    def _message_came(self, message: str | bytes) -> None:
        """Too long, too many, or not text: passed over."""
        now_s = time.monotonic()
        self._allowance = min(_MESSAGE_BURST, self._allowance + (now_s - self._allowed_s) * _MESSAGES_PER_S)
        self._allowed_s = now_s
        if self._allowance < 1 or not isinstance(message, str) or len(message) > _MOST_MESSAGE:
            return
        self._allowance -= 1
        self._hooks.on_message(message)

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected":
            self._connected = True
            if self._reports is None:
                self._reports = asyncio.create_task(self._report(), name="sender-reports")
            self.show(self._feed, sound=self._hears)
            self._hooks.on_connected()
        elif state in ("failed", "closed"):
            self._hooks.on_end(state)
