"""Watch any WHEP server (draft-ietf-wish-whep): when its frames come, and how many bytes they take."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.parse
from dataclasses import dataclass

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from stream_server.bench.caller import PictureStream, is_local, receiver_of
from stream_server.bench.errors import BenchError
from stream_server.bench.signalling import delete, post
from stream_server.bench.statistics import gaps_ms
from stream_server.bench.taps import VideoTap
from stream_server.worker import aiortc_bridge

__all__ = ["WhepMeasures", "watch"]

_FIRST_FRAME_S = 20.0


@dataclass(frozen=True, slots=True)
class WhepMeasures:
    """Intervals are between frames' last packets; repeated pictures cannot be told from new ones."""

    first_frame_s: float
    interval_p50_ms: float
    interval_p95_ms: float
    longest_ms: float
    fps: float
    width: int
    height: int
    bytes_per_s: float


async def watch(url: str, seconds: float, *, token: str | None = None) -> WhepMeasures:
    """Receive for `seconds` after the first frame.

    Raises:
        RefusedError: The server answered with an error.
        BenchError: It did not answer, or no picture came.
    """
    aiortc_bridge.offer_host_addresses(loopback=is_local(url))
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    viewer = _Viewer(connection)
    location = None
    try:
        connection.addTransceiver("video", "recvonly")
        connection.addTransceiver("audio", "recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        offered_ns = time.monotonic_ns()
        reply = await post(url, connection.localDescription.sdp, content_type="application/sdp", token=token)
        location = reply.location
        await connection.setRemoteDescription(RTCSessionDescription(reply.body, "answer"))
        await viewer.first_frame()
        await asyncio.sleep(seconds)
        return viewer.measures(offered_ns)
    except ValueError as error:
        raise BenchError(f"{url} answered with SDP that cannot be used: {error}") from error
    finally:
        if location is not None:
            await delete(urllib.parse.urljoin(url, location), token)
        await viewer.close()
        await connection.close()


class _Viewer:
    """Collects the frames of the first video track; sound is received and left alone."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self._connection = connection
        self._pictures: PictureStream | None = None
        self._began = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        connection.on("track", self._on_track)

    async def first_frame(self) -> None:
        """Wait for it."""
        try:
            async with asyncio.timeout(_FIRST_FRAME_S):
                await self._began.wait()
        except TimeoutError as error:
            raise BenchError(f"no frame within {_FIRST_FRAME_S:g} s of the answer") from error

    def measures(self, offered_ns: int) -> WhepMeasures:
        """Judge what came."""
        pictures = self._pictures
        if pictures is None or len(pictures.frames) < 3:
            raise BenchError("too few frames came to say anything: measure for longer")
        frames = pictures.frames
        gaps = gaps_ms([frame.arrived_ns for frame in frames])
        seconds = (frames[-1].arrived_ns - frames[0].arrived_ns) / 1e9
        return WhepMeasures(
            first_frame_s=(frames[0].arrived_ns - offered_ns) / 1e9,
            interval_p50_ms=float(np.percentile(gaps, 50)),
            interval_p95_ms=float(np.percentile(gaps, 95)),
            longest_ms=float(gaps.max()),
            fps=len(gaps) / seconds,
            width=frames[-1].width,
            height=frames[-1].height,
            bytes_per_s=pictures.tap.bytes_received / seconds,
        )

    async def close(self) -> None:
        """Stop collecting; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._tasks.append(asyncio.create_task(self._drain(track)))
        elif self._pictures is None:
            self._pictures = PictureStream(VideoTap(receiver_of(self._connection, track)))
            self._tasks += self._pictures.watch(track, self._began.set)

    async def _drain(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                await track.recv()
