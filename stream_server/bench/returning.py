"""A call that looks after itself: it notices by the missing heartbeat that its server is gone, and comes back.

The events channel carries `timing` and `playback.position` once a second: that is the heartbeat. Without it the call
is resumed, by any of the ingresses that the server named; where nobody knows the session any more, a new one takes its
place with the same wishes. `client_web/src/call.js` does the same in the page.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from stream_server.bench.caller import Caller
from stream_server.bench.errors import BenchError, RefusedError
from stream_server.bench.voice import Microphone

__all__ = ["Return", "ReturningCaller"]

MISSED_S = 3.0
"""Two heartbeats missing, and the third late."""
_WATCH_S = 0.1
_PAUSE_S = 0.25
_ANSWER_S = 5.0
_PICTURE_S = 15.0
_KNOWN_S = 5.0
"""How long a session whose node does not answer is asked for, before a new one takes its place."""
_GIVE_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Return:
    """One coming back, in monotonic ns: the last picture before, when it was noticed, the first picture after."""

    how: Literal["resumed", "new session"]
    last_ns: int
    noticed_ns: int
    back_ns: int


class ReturningCaller:
    """One call over any number of connections; `wishes` are the offer's further members."""

    def __init__(
        self,
        url: str,
        microphone: Callable[[], Microphone],
        *,
        token: str | None = None,
        missed_s: float = MISSED_S,
        **wishes: Any,
    ) -> None:
        self.urls = [url]
        self.returns: list[Return] = []
        self.given_up: str | None = None
        self._microphone = microphone
        self._token = token
        self._wishes = wishes
        self._missed_s = missed_s
        self._known = True
        self._begun_ns = time.monotonic_ns()
        self._watcher: asyncio.Task[None] | None = None
        self.caller = self._new(url)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def session(self) -> str:
        """The session's id now."""
        return str(self.caller.answer["id"])

    @property
    def frames(self) -> int:
        """Pictures of the present connection."""
        return 0 if self.caller.pictures is None else len(self.caller.pictures.frames)

    async def start(self, patience_s: float = 30.0) -> None:
        """Call, and return when pictures come."""
        await self.caller.call(**self._wishes)
        self.urls = [str(url) for url in self.caller.answer.get("ingresses", self.urls)]
        await self.caller.first_frame(patience_s)
        self._begun_ns = time.monotonic_ns()
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Hang up; idempotent."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self.caller.close()

    def _new(self, url: str) -> Caller:
        return Caller(url, self._microphone(), token=self._token)

    async def _watch(self) -> None:
        while self.given_up is None:
            await asyncio.sleep(_WATCH_S)
            heard_ns = self.caller.events[-1][0] if self.caller.events else self._begun_ns
            if self.caller.ended is not None or time.monotonic_ns() - heard_ns > self._missed_s * 1e9:
                await self._come_back()

    async def _come_back(self) -> None:
        lost, noticed_ns = self.caller, time.monotonic_ns()
        assert lost.pictures is not None
        last_ns = lost.pictures.frames[-1].arrived_ns
        self._known = True
        for url in itertools.cycle(self.urls):
            passed_s = (time.monotonic_ns() - noticed_ns) / 1e9
            if passed_s > _GIVE_UP_S:
                self.given_up = f"nobody took the call back within {_GIVE_UP_S:g} s"
                return
            self._known = self._known and passed_s < _KNOWN_S
            fresh = await self._try(url, lost)
            if fresh is not None:
                assert fresh.pictures is not None
                back_ns = fresh.pictures.frames[0].arrived_ns
                self._take(fresh)
                how: Literal["resumed", "new session"] = "resumed" if self._known else "new session"
                self.returns.append(Return(how, last_ns, noticed_ns, back_ns))
                await lost.drop()
                return
            await asyncio.sleep(_PAUSE_S)

    def _take(self, fresh: Caller) -> None:
        """The call goes on by this connection."""
        self.caller = fresh
        self._begun_ns = time.monotonic_ns()
        self.urls = [str(one) for one in fresh.answer.get("ingresses", self.urls)]

    async def _try(self, url: str, lost: Caller) -> Caller | None:
        """Another connection by this ingress: to the session, as long as it may be known there; None: not now."""
        fresh = self._new(url)
        try:
            if self._known:
                path, wishes = f"/v1/sessions/{lost.answer['id']}/resume", {"resume_token": lost.answer["resume_token"]}
            else:
                path, wishes = "/v1/sessions", self._wishes
            await fresh.call(path, timeout_s=_ANSWER_S, **wishes)
            await fresh.first_frame(_PICTURE_S)
        except BenchError as error:
            if isinstance(error, RefusedError) and error.code == "no-such-session":
                self._known = False
            await fresh.drop()
            return None
        except asyncio.CancelledError:
            await fresh.close()
            raise
        return fresh
