"""The sessions of this worker: admits, finds, closes."""

from __future__ import annotations

import asyncio
import logging
import secrets

from stream_server.config import ServerConfig
from stream_server.errors import EngineLostError, ServerBusyError
from stream_server.events import Event
from stream_server.log_setup import SessionLog
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.session import AvatarSession
from stream_server.worker.sinks.peer import PeerSink

__all__ = ["SessionRegistry"]

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 15.0
_RETRY_AFTER_S = 5


class _Place:
    """One admitted caller."""

    def __init__(self, session: AvatarSession, peer: PeerSink, session_log: SessionLog) -> None:
        self.session = session
        self.peer = peer
        self.log = session_log
        self.watchdog: asyncio.Task[None] | None = None


class SessionRegistry:
    """At most `config.max_sessions` at a time."""

    def __init__(self, config: ServerConfig, engine: EngineClient) -> None:
        self._config = config
        self._engine = engine
        self._places: dict[str, _Place] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Sessions open now."""
        return len(self._places)

    async def create(self, sdp: str) -> tuple[str, str]:
        """Open a session for an SDP offer; return its id and the SDP answer."""
        if self._engine.avatar is None:
            raise EngineLostError("the avatar is not loaded yet")
        if len(self._places) >= self._config.max_sessions:
            raise ServerBusyError(self._config.max_sessions, _RETRY_AFTER_S)
        session_id = secrets.token_urlsafe(12)
        place = self._places[session_id] = self._make_place(session_id)
        try:
            answer = await place.peer.answer(sdp)
        except BaseException:
            await self.close(session_id)
            raise
        place.watchdog = asyncio.create_task(self._close_if_unconnected(session_id))
        place.log.info("opened")
        return session_id, answer

    async def close(self, session_id: str) -> bool:
        """Close a session; False if there is none of this id."""
        place = self._places.pop(session_id, None)
        if place is None:
            return False
        if place.watchdog is not None:
            place.watchdog.cancel()
        await place.session.close()
        await place.peer.close()
        place.log.info("closed %s", place.session.counters.line())
        return True

    async def close_all(self) -> None:
        """The server stops: tell every caller, close, and wait for those that are closing."""
        for place in self._places.values():
            place.session.end("server-stopped", "the server was stopped")
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _make_place(self, session_id: str) -> _Place:
        session_log = SessionLog(log, session_id)
        peers: list[PeerSink] = []

        def emit(event: Event) -> None:
            peers[0].emit(event)

        def end() -> None:
            self._close_soon(session_id)

        session = AvatarSession(session_id, self._engine, log=session_log, emit=emit, on_end=end)
        bitrate_bps = self._config.video_bitrate_bps * int(session.avatar["size"]) ** 2 // 256**2
        peers.append(PeerSink(session, timecode=self._config.timecode, bitrate_bps=bitrate_bps, on_end=end))
        return _Place(session, peers[0], session_log)

    def _close_soon(self, session_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._close_after_events(session_id))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_after_events(self, session_id: str) -> None:
        await asyncio.sleep(0.2)  # lets the error event leave before its channel closes
        await self.close(session_id)

    async def _close_if_unconnected(self, session_id: str) -> None:
        await asyncio.sleep(_CONNECT_TIMEOUT_S)
        place = self._places.get(session_id)
        if place is not None and not place.session.clock.started:
            place.log.warning("no connection within %.0f s", _CONNECT_TIMEOUT_S)
            self._close_soon(session_id)
