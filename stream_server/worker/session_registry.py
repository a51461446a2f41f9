"""The sessions of this worker: opens, finds, resumes, closes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from stream_server.config import ServerConfig
from stream_server.errors import ConflictError, EngineLostError, NotFoundError, ServerBusyError
from stream_server.media.encoder_trial import EncoderChoice
from stream_server.metrics import SessionCounters, WorkerTotals
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.offers import advertise
from stream_server.worker.place import Place
from stream_server.worker.rooms import Rooms
from stream_server.worker.session_options import SessionOptions
from stream_server.worker.sinks.peer import PeerSink
from stream_server.worker.sinks.recording import RecordingFolder
from stream_server.worker.sinks.virtual_camera import VirtualCamera
from stream_server.worker.tidying import Tidier

__all__ = ["SessionRegistry"]

log = logging.getLogger(__name__)

_RESUME_S = 30.0
_MOST_VIEWERS = 8
_CAMERA_ENDS_S = 2.0


class SessionRegistry:
    """Sessions by id. Ids begin with the worker's number, so that the front finds the worker; in a cluster with its
    node's and its replica's names before it."""

    def __init__(
        self,
        config: ServerConfig,
        engine: EngineClient,
        encoders: EncoderChoice,
        camera: VirtualCamera | None = None,
        *,
        worker: int = 0,
    ) -> None:
        self._config = config
        self._engine = engine
        self._encoders = encoders
        self._camera = camera
        self._worker = f"{config.session_prefix}{worker}"
        self._places: dict[str, Place] = {}
        self._viewers: dict[str, Place] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._one_left = asyncio.Event()
        self._tidier = Tidier(lambda: self.count)
        self.rooms = Rooms()
        self.totals = WorkerTotals()
        self._recordings = (
            None if config.record is None else RecordingFolder(Path(config.record), config.record_quota_mb * 1_000_000)
        )

    @property
    def count(self) -> int:
        """Sessions open now."""
        return len(self._places)

    @property
    def peers(self) -> int:
        """Peers connected or connecting."""
        return sum(len(place.viewers) + (place.main is not None) for place in self._places.values())

    def metrics(self) -> dict[str, Any]:
        """What this worker has counted since it started."""
        open_now = SessionCounters()
        for place in self._places.values():
            open_now.add(place.session.tally())
        return self.totals.to_json(open_now)

    async def open(self, owner: str, options: SessionOptions, *, check_unused_s: float | None = None) -> Place:
        """A session that nobody is connected to yet; with `check_unused_s`, closed if nobody is by then.

        Raises:
            EngineLostError: There is no engine at the moment.
            ServerBusyError: This worker has all the sessions it may have.
            RefusedError: The avatar cannot be loaded.
        """
        if options.avatar != self._first_avatar():
            await self._engine.request("load", avatar=options.avatar)
            self._first_avatar()  # others came meanwhile, or the engine went
        session_id = f"{self._worker}-{secrets.token_urlsafe(16)}"
        place = Place.make(
            session_id,
            owner,
            self._config,
            self._engine,
            self._encoders,
            options,
            self.totals,
            lambda: self._close_soon(session_id),
        )
        if self._recordings is not None:
            place.record(self._recordings)
        self._places[session_id] = place
        if self._camera is not None:
            self._camera.join(place)
        if check_unused_s is not None:
            place.later(self._close_if_unused(place, check_unused_s))
        self.totals.session_opened(options.source)
        place.log.info("opened source=%s avatar=%s", options.source, options.avatar)
        return place

    def _first_avatar(self) -> str:
        """Id of the engine's own avatar, if there is an engine, and a place for one more session."""
        if self._engine.avatar is None:
            raise EngineLostError("the avatar is not loaded yet")
        if len(self._places) >= self._config.sessions_per_worker:
            raise ServerBusyError(self._config.sessions_per_worker, 5)
        return str(self._engine.avatar["id"])

    async def call(self, sdp: str, owner: str, options: SessionOptions, room: str | None = None) -> tuple[Place, str]:
        """Open a session for an SDP offer; the session and the SDP answer.

        Raises:
            OfferError: The offer cannot be answered; and what `open` raises.
            ConflictError: The room is full.
        """
        if room is not None:
            self.rooms.check(room)
        place = await self.open(owner, options, check_unused_s=self._config.connect_timeout_s)
        try:
            place.main = place.new_main(self._main_ended(place))
            answer = await place.main.answer(sdp)
            if room is None:
                place.main.show(place.feed)
            else:
                self.rooms.join(room, place)
        except BaseException:
            await self.close(place.session.id, owner)
            raise
        return place, self._outward(answer)

    async def resume(self, session_id: str, owner: str, token: str, sdp: str) -> tuple[Place, str]:
        """Give a session another peer in the place of the one it had: after a change of network, or a reload.

        Raises:
            NotFoundError: There is no such session of this owner, or the token is not its own; or it ended meanwhile.
            OfferError: The offer cannot be answered; the old peer stays.
        """
        place = self.find(session_id, owner)
        if not hmac.compare_digest(place.resume_token.encode(), token.encode()):
            raise NotFoundError(f"there is no session {session_id[:40]!r} to resume with this token")
        peer = place.new_main(self._main_ended(place))
        try:
            answer = await peer.answer(sdp)
            if place.closed.is_set():
                raise NotFoundError(f"session {session_id[:40]!r} ended before it was resumed")
        except BaseException:
            place.egress.detach(peer)
            await peer.close()
            raise
        old, place.main = place.main, peer
        if place.room is None:
            peer.show(place.feed)
        else:
            self.rooms.rejoin(place)
        if old is not None:
            place.egress.detach(old)
            await old.close()
        place.log.info("resumed")
        return place, self._outward(answer)

    async def watch(self, place: Place, sdp: str) -> tuple[str, str]:
        """A viewer of a session: its id and the SDP answer.

        Raises:
            OfferError: The offer cannot be answered.
            ServerBusyError: Eight watch already.
        """
        if len(place.viewers) >= _MOST_VIEWERS:
            raise ServerBusyError(_MOST_VIEWERS, 10)
        viewer_id = f"{self._worker}-{secrets.token_urlsafe(16)}"
        viewer = place.new_viewer(viewer_id, lambda gone: self._forget_soon(gone))
        self._viewers[viewer_id] = place
        try:
            answer = await viewer.answer(sdp)
        except BaseException:
            await self.forget_viewer(viewer_id, place.owner)
            raise
        return viewer_id, self._outward(answer)

    async def forget_viewer(self, viewer_id: str, owner: str | None) -> None:
        """Close a viewer.

        Raises:
            NotFoundError: There is none of this id for this owner.
        """
        place = self._viewers.get(viewer_id)
        if place is None or (owner is not None and owner != place.owner):
            raise NotFoundError(f"there is no viewer {viewer_id[:40]!r}")
        del self._viewers[viewer_id]
        viewer = place.viewers.pop(viewer_id, None)
        if viewer is not None:
            await viewer.close()

    def find(self, session_id: str, owner: str) -> Place:
        """A session of this owner.

        Raises:
            NotFoundError: There is none; another owner's counts as none.
        """
        place = self._places.get(session_id)
        if place is None or place.owner != owner:
            raise NotFoundError(f"there is no session {session_id[:40]!r}")
        return place

    def room_names(self) -> list[str]:
        """Rooms of two that someone is in, and WHIP rooms as `owner/room`."""
        published = [f"{place.owner}/{place.published_as}" for place in self._places.values() if place.published_as]
        return self.rooms.names() + published

    def publisher(self, room: str, owner: str) -> Place | None:
        """The session that publishes into a WHIP room of this owner, if there is one."""
        for place in self._places.values():
            if place.published_as == room and place.owner == owner:
                return place
        return None

    async def publish(self, room: str, sdp: str, owner: str, options: SessionOptions) -> tuple[Place, str]:
        """A WHIP publisher: its sound drives an avatar that others watch by WHEP.

        Raises:
            ConflictError: There is a publisher already.
        """
        if self.publisher(room, owner) is not None:
            raise ConflictError(f"room {room[:40]!r} has a publisher already; end that session first")
        place = await self.open(owner, options, check_unused_s=self._config.connect_timeout_s)
        place.published_as = room
        try:
            place.main = place.new_main(self._main_ended(place), sends=())
            return place, self._outward(await place.main.answer(sdp))
        except BaseException:
            await self.close(place.session.id, owner)
            raise

    async def close(self, session_id: str, owner: str) -> None:
        """Close a session.

        Raises:
            NotFoundError: There is none of this id for this owner.
        """
        await self._close(self.find(session_id, owner))

    async def is_over(self, session_id: str, room: str | None, within_s: float) -> bool:
        """Whether the session is gone, and with it all who are in `room`; waits for that so long, and answers at once
        when it comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while session_id in self._places or room in self.room_names():
                    await self._one_left.wait()
                return True
        return False

    async def close_all(self) -> None:
        """The server stops: tell every caller, close, and wait for those that are closing."""
        for place in list(self._places.values()):
            place.session.end("server-stopped", "the server was stopped")
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._camera is not None and (camera := self._camera.close()) is not None:
            await asyncio.to_thread(camera.join, _CAMERA_ENDS_S)

    async def _close(self, place: Place) -> None:
        if self._places.pop(place.session.id, None) is None:
            return
        counters = place.session.tally()
        self.totals.closed.add(counters)
        for viewer_id in list(place.viewers):
            self._viewers.pop(viewer_id, None)
        self.rooms.leave(place)
        self._one_left.set()
        self._one_left = asyncio.Event()
        if self._camera is not None:
            self._camera.leave(place)
        await place.close()
        place.log.info("closed %s", counters.line())
        self._tidier.session_ended()

    def _outward(self, sdp: str) -> str:
        return sdp if self._config.advertise_ip is None else advertise(sdp, self._config.advertise_ip)

    def _main_ended(self, place: Place) -> Callable[[PeerSink, str], None]:
        def ended(peer: PeerSink, state: str) -> None:
            if peer is not place.main:
                return
            if state == "failed" and place.session.running:
                place.log.info("the network is lost; kept for %.0f s", _RESUME_S)
                place.later(self._close_if_not_resumed(place, peer))
            else:
                self._close_soon(place.session.id)

        return ended

    def _close_soon(self, session_id: str) -> None:
        self._keep(self._close_after_events(session_id))

    def _forget_soon(self, viewer_id: str) -> None:
        if viewer_id in self._viewers:
            self._keep(self._forget_lost(viewer_id))

    async def _forget_lost(self, viewer_id: str) -> None:
        with contextlib.suppress(NotFoundError):  # its DELETE came in the same moment
            await self.forget_viewer(viewer_id, None)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_after_events(self, session_id: str) -> None:
        await asyncio.sleep(0.2)  # lets the error event leave before its channel closes
        place = self._places.get(session_id)
        if place is not None:
            await self._close(place)

    async def _close_if_unused(self, place: Place, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if not place.session.clock.started:
            place.log.warning("no connection within %.0f s", after_s)
            self._close_soon(place.session.id)

    async def _close_if_not_resumed(self, place: Place, lost: PeerSink) -> None:
        await asyncio.sleep(_RESUME_S)
        if place.main is lost:
            self._close_soon(place.session.id)
