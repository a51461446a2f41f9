"""The cluster as one node's gate sees it, by Ray: Serve's handle for new sessions, nodes' agents for open ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ray import serve
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.serve.exceptions import RayServeException

from stream_server.avatar_folders import Catalogue
from stream_server.cluster.agents import find_agent, nodes_with_agents
from stream_server.cluster.door import Door
from stream_server.cluster.gate import Answer, SpeechLine, away, no_session
from stream_server.cluster.names import Home
from stream_server.config import ServerConfig
from stream_server.engine import protocol

__all__ = ["APP", "RayView"]

log = logging.getLogger(__name__)

APP = "nerf-lipsync"
_OPEN_S = 15.0
_ASK_S = 18.0
_ALIVE_S = 1.5
_SILENCE_S = 5.0
"""How long a node that did not answer is not asked for its status: Ray will have found out what is with it."""
_TRIES = 2
_FAILED = (TimeoutError, GetTimeoutError, RayError, RayServeException)


class RayView:
    """See `stream_server.cluster.gate.View`."""

    def __init__(self, node: str, url: str, door: Door, config: ServerConfig) -> None:
        self._node = node
        self._door = door
        self._first_avatar = Catalogue.find(config.avatar, config.avatars, config.backgrounds).first
        self._urls = {node: url}
        self._silent_until: dict[str, float] = {}
        self._held: set[asyncio.Task[None]] = set()

    async def place(self, request: Mapping[str, Any]) -> Answer:
        """Open a session where Serve says; its call is held until it ends."""
        for _ in range(_TRIES):
            call = self._handle(request["options"]).session.remote(dict(request))
            try:
                async with asyncio.timeout(_OPEN_S):
                    answer: Answer = await anext(call)
            except RayActorError:  # the replica died, and the router did not know yet
                continue
            except _FAILED as error:
                call.cancel()
                log.warning("no replica took a session: %s", error)
                return away("no avatar worker took the call in time")
            self._hold(call)
            return answer
        return away()

    async def ask(self, home: Home, request: Mapping[str, Any]) -> Answer:
        """Ask a worker, here or on another node."""
        if home.node == self._node:
            return await self._door.ask(home, request)
        agent = await asyncio.to_thread(find_agent, home.node)
        if agent is None:
            return no_session(str(request.get("id", "")))
        try:
            async with asyncio.timeout(_ALIVE_S):
                await agent.about.remote()
            async with asyncio.timeout(_ASK_S):
                answer: Answer = await agent.ask.remote(home, dict(request))
            return answer
        except _FAILED as error:
            log.warning("node %s does not answer: %s", home.node, type(error).__name__)
            return away("the session's node does not answer")

    async def statuses(self) -> dict[Home, Answer]:
        """Of all workers of nodes that answer."""
        others = [node for node in await self._nodes() if node != self._node]
        found = await asyncio.gather(self._door.statuses(), *(self._statuses_of(node) for node in others))
        return {home: status for statuses in found for home, status in statuses.items()}

    async def ingresses(self) -> list[str]:
        """This node's URL first."""
        others = [node for node in await self._nodes() if node != self._node]
        return [url for url in [self._urls[self._node], *map(self._urls.get, others)] if url]

    async def speak(self, home: Home | None, request: Mapping[str, Any]) -> SpeechLine | Answer:
        """A stream to a session's worker, or to the worker that Serve chooses for a new one."""
        call = None
        if home is None:
            call = self._handle(request["options"]).hold.remote(self._node)
            try:
                async with asyncio.timeout(_OPEN_S):
                    home = await anext(call)
            except _FAILED as error:
                call.cancel()
                log.warning("no replica took an assistant: %s", error)
                return away("no avatar worker took the call in time")
        assert home is not None
        agent = await asyncio.to_thread(find_agent, home.node)
        if agent is not None:
            return _Line(agent, home, request, call)
        if call is None:
            return no_session(str(request["id"]))
        call.cancel()  # or its place is held for as long as this node lives
        return away()

    def _handle(self, options: Mapping[str, Any]) -> Any:
        """With another avatar than the first, which all replicas have, it is said: see `router`."""
        avatar = str(options["avatar"])
        affinity = "" if avatar == self._first_avatar else avatar
        return serve.get_app_handle(APP).options(stream=True, multiplexed_model_id=affinity)

    def _hold(self, call: Any) -> None:
        async def wait() -> None:
            with contextlib.suppress(*_FAILED):
                async for _ in call:
                    pass

        task = asyncio.get_running_loop().create_task(wait())
        self._held.add(task)
        task.add_done_callback(self._held.discard)

    async def _nodes(self) -> list[str]:
        """Nodes that have an agent, but for those that just did not answer."""
        nodes = await asyncio.to_thread(nodes_with_agents)
        now_s = time.monotonic()
        return [node for node in nodes if self._silent_until.get(node, 0.0) < now_s]

    async def _statuses_of(self, node: str) -> dict[Home, Answer]:
        agent = await asyncio.to_thread(find_agent, node)
        if agent is None:
            return {}
        try:
            async with asyncio.timeout(_ALIVE_S):
                if node not in self._urls:
                    self._urls[node] = str((await agent.about.remote())["url"])
                found: dict[Home, Answer] = await agent.statuses.remote()
            return found
        except _FAILED as error:
            log.warning("node %s does not answer: %s", node, type(error).__name__)
            self._silent_until[node] = time.monotonic() + _SILENCE_S
            return {}


class _Line:
    """An assistant's stream through the agent of a worker's node. `call` holds its place, if it opens a session."""

    def __init__(self, agent: Any, home: Home, request: Mapping[str, Any], call: Any) -> None:
        self._agent = agent
        self._name = secrets.token_hex(8)
        self._call = call
        self._stream = agent.listen.options(num_returns="streaming").remote(self._name, home, dict(request))

    async def __aiter__(self) -> AsyncIterator[protocol.Message]:
        with contextlib.suppress(RayError):
            async for reference in self._stream:
                yield await reference

    def push(self, body: Mapping[str, Any], blob: bytes) -> None:
        self._agent.push.remote(self._name, dict(body), blob)

    async def close(self) -> None:
        self._agent.hang_up.remote(self._name)
        if self._call is not None:
            self._call.cancel()
