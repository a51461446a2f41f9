"""One admitted session with all that hangs on it: its pacing, its feed, its peers."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_server.config import ServerConfig
from stream_server.errors import StreamServerError
from stream_server.events import Event, NoticeEvent, ReadyEvent
from stream_server.json_text import read_json
from stream_server.log_setup import SessionLog
from stream_server.media.encoder_trial import EncoderChoice
from stream_server.media.video_encoder import VideoCodec
from stream_server.metrics import WorkerTotals
from stream_server.worker.egress import Egress
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.feed import Feed
from stream_server.worker.messages import carry_out, refusal
from stream_server.worker.session import AvatarSession
from stream_server.worker.session_options import SessionOptions
from stream_server.worker.sinks.peer import PeerHooks, PeerSink
from stream_server.worker.sinks.recording import Recorder, RecordingFolder
from stream_server.worker.speaker import Speaker

__all__ = ["Place"]

log = logging.getLogger(__name__)

_FULL_SIZE_PX = 256
_RECORDING_ENDS_S = 3.0
_FILMED = NoticeEvent(code="camera-on", message="a virtual camera on the server's machine shows this session's picture")


@dataclass(eq=False)
class Place:
    """A session's surroundings. `main` is the peer that opened it, `viewers` only watch;
    `published_as` is the WHIP room whose publisher it is."""

    session: AvatarSession
    owner: str
    egress: Egress
    feed: Feed
    codecs: Sequence[VideoCodec]
    log: SessionLog
    visible_mark: bool
    invisible_mark: bool
    main: PeerSink | None = None
    room: str | None = None
    published_as: str | None = None
    viewers: dict[str, PeerSink] = field(default_factory=dict)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    resume_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    recorded: bool = False
    filmed: bool = False
    timers: set[asyncio.Task[None]] = field(default_factory=set)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    speaker: Speaker | None = None
    recorder: Recorder | None = None

    @classmethod
    def make(
        cls,
        session_id: str,
        owner: str,
        config: ServerConfig,
        engine: EngineClient,
        encoders: EncoderChoice,
        options: SessionOptions,
        totals: WorkerTotals,
        on_end: Callable[[], None],
    ) -> Place:
        """A session that nobody is connected to yet."""
        places: list[Place] = []
        session_log = SessionLog(log, session_id)
        session = AvatarSession(
            session_id, engine, options, log=session_log, emit=lambda event: places[0].emit(event), on_end=on_end
        )
        bitrate_bps = config.video_bitrate_bps * int(session.avatar["size"]) ** 2 // _FULL_SIZE_PX**2
        place = cls(
            session=session,
            owner=owner,
            egress=Egress(session, totals, timecode=config.timecode),
            feed=Feed(encoders, fps=int(session.avatar["fps"]), bitrate_bps=bitrate_bps),
            codecs=encoders.codecs,
            log=session_log,
            visible_mark=config.visible_mark,
            invisible_mark=config.mark_instance is not None,
        )
        places.append(place)
        place.egress.attach(place.feed)
        if session.speech is not None:
            place.speaker = Speaker(session, config)
        return place

    def record(self, folder: RecordingFolder) -> None:
        """Record what leaves, from the first picture on; if that ends early, the caller is told and goes on."""
        loop = asyncio.get_running_loop()

        def stopped(code: str, message: str) -> None:
            self.recorded = False
            self.emit(NoticeEvent(code=code, message=message))

        def stopped_in_thread(code: str, message: str) -> None:
            loop.call_soon_threadsafe(stopped, code, message)

        self.recorded = True
        self.recorder = Recorder(
            folder,
            size=int(self.session.avatar["size"]),
            fps=int(self.session.avatar["fps"]),
            on_stopped=stopped_in_thread,
            session=self.session.id,
        )
        self.egress.attach(self.recorder)

    def start(self) -> None:
        """Someone is there: let time run."""
        self.session.start()
        self.egress.start()

    def emit(self, event: Event) -> None:
        """Tell the main peer, and whoever else listens."""
        if self.main is not None:
            self.main.emit(event)
        for listener in list(self.listeners):
            listener(event)

    def ready(self) -> ReadyEvent:
        """What the session is, for who joins it."""
        session = self.session
        return ReadyEvent(
            session=session.id,
            avatar=session.shown_avatar,
            size=session.avatar["size"],
            fps=session.avatar["fps"],
            algorithmic_ms=session.algorithmic_ms,
            visible_mark=self.visible_mark,
            invisible_mark=self.invisible_mark,
            recorded=self.recorded,
        )

    def greeting(self) -> list[Event]:
        """What who joins it is told first."""
        return [self.ready(), *([_FILMED] if self.filmed else [])]

    def begin_filming(self) -> None:
        """From now on a virtual camera shows it."""
        self.filmed = True
        self.emit(_FILMED)

    def new_main(
        self, on_end: Callable[[PeerSink, str], None], *, sends: Sequence[str] = ("audio", "video")
    ) -> PeerSink:
        """A peer whose microphone (if the session wants one) drives the session; not yet in the place of the old."""
        peers: list[PeerSink] = []
        hooks = PeerHooks(
            on_connected=self.start,
            on_end=lambda state: on_end(peers[0], state),
            greeting=self.greeting,
            on_message=self._on_message,
            on_packet=self.session.on_packet if self.session.speech is None else None,
        )
        peers.append(PeerSink(f"avatar-{self.session.id}", hooks, codecs=self.codecs, sends=sends))
        self.egress.attach(peers[0])  # for its motion
        return peers[0]

    def new_viewer(self, viewer_id: str, on_end: Callable[[str], None]) -> PeerSink:
        """A peer that only watches."""
        hooks = PeerHooks(
            on_connected=self.start,
            on_end=lambda _state: on_end(viewer_id),
            greeting=self.greeting,
            on_message=lambda _text: None,
        )
        viewer = self.viewers[viewer_id] = PeerSink(f"avatar-{self.session.id}", hooks, codecs=self.codecs)
        viewer.show(self.feed)
        return viewer

    async def close(self) -> None:
        """Close the session and all peers; idempotent."""
        self.closed.set()
        for timer in self.timers:
            timer.cancel()
        if self.speaker is not None:
            await self.speaker.close()
        await self.egress.close()
        if self.recorder is not None and (writing := self.recorder.close()) is not None:
            await asyncio.to_thread(writing.join, _RECORDING_ENDS_S)
        await self.session.close()
        await self.feed.close()
        for peer in [*self.viewers.values(), *([self.main] if self.main else [])]:
            await peer.close()

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that ends with the place."""
        task = asyncio.get_running_loop().create_task(work)
        self.timers.add(task)
        task.add_done_callback(self.timers.discard)

    def _on_message(self, text: str) -> None:
        """A message of the main peer's events channel."""
        try:
            message = read_json(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.emit(NoticeEvent(code="bad-message", message="a message must be a JSON object with a type"))
            return
        if message.get("type") == "playback.reported":
            return self._report(message)
        if len(self.timers) < 32:  # a caller that asks faster than it is served is not heard
            self.later(self._obey(message))
        return None

    def _report(self, message: dict[str, Any]) -> None:
        """What the browser says it has played, for the assistant that speaks."""
        if self.speaker is not None:
            self.speaker.reported(str(message.get("utterance", ""))[:64], message.get("played_ms"))

    async def _obey(self, message: dict[str, Any]) -> None:
        try:
            await self.do(message)
        except StreamServerError as error:
            self.emit(refusal(message, error))

    async def do(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out a `control`, `interrupt` or `say` message; what there is to answer.

        Raises:
            StreamServerError: It cannot be done.
        """
        return await carry_out(self, message)
