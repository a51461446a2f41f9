"""The Serve deployment: a replica is one engine (one GPU, or a slot of CPUs) with its media workers.

It starts them as `serve` does, and they end with it. A session is one streaming call: the first item is the worker's
answer, and the call lasts as long as the session, so that Serve sees calls as load and a replica that is no longer
wanted waits for its calls.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from typing import Any

import ray
from ray import serve

from stream_server.cluster.agents import agent_is_alive
from stream_server.cluster.gate import Answer
from stream_server.cluster.names import NODE_DIGITS, Home
from stream_server.cluster.node_agent import ensure_agent
from stream_server.cluster.processes import Processes, node_folder
from stream_server.config import ServerConfig
from stream_server.front.worker_client import WorkerClient, WorkerPool
from stream_server.serve import with_record_folder

__all__ = ["AvatarWorker"]

_ASK_S = 1.0
_AGENT_S = 180.0
"""For the node's agent to start; what keeps it from starting (a port in use) is then this replica's error too."""
_AVATARS = 8
"""Avatars whose replica Serve remembers; the engine's own shelf keeps as many as its memory takes."""


class AvatarWorker:
    """One replica."""

    def __init__(self, config_json: str) -> None:
        config = with_record_folder(ServerConfig.from_json(config_json))
        self._config_json = config_json
        self._node = ray.get_runtime_context().get_node_id()
        home = Home(self._node[:NODE_DIGITS], serve.get_replica_context().replica_id.unique_id)
        self._home = home
        own = dataclasses.replace(
            config, session_prefix=home.prefix, advertise_ip=os.environ.get("NERF_LIPSYNC_ADVERTISE_IP")
        )
        folder = node_folder(self._node) / home.replica
        self._processes = Processes(own, folder, ("engine", "worker"))
        self._pool = WorkerPool([WorkerClient(folder / f"worker-{number}.sock") for number in range(own.workers)])
        ray.get(ensure_agent(self._node, config_json).about.remote(), timeout=_AGENT_S)
        while not self._processes.wait_ready(1.0):  # Serve has a thread for this class
            self.check_processes()

    async def __del__(self) -> None:
        """Serve has let all calls end that it knows of; one whose ingress died may go on yet."""
        while not (self._processes.asked_to_stop or self._processes.exit_code is not None):
            if not (await self._pool.status()).get("sessions"):
                break
            await asyncio.sleep(_ASK_S)
        await asyncio.to_thread(self._processes.close)

    def check_processes(self) -> None:
        """Raises RuntimeError once the processes have ended for good: Serve then starts another replica."""
        if self._processes.asked_to_stop:
            self._processes.stop()
        elif self._processes.exit_code is not None:
            raise RuntimeError(f"the avatar's processes ended with exit code {self._processes.exit_code}")

    async def check_health(self) -> None:
        """Serve asks now and then."""
        self.check_processes()
        await asyncio.to_thread(ensure_agent, self._node, self._config_json)

    async def session(self, request: dict[str, Any]) -> AsyncIterator[Answer]:
        """A `create` or `publish` request: its answer, and no end before the session's."""
        if avatar := serve.get_multiplexed_model_id():
            await self._remember(avatar)
        worker = self._pool.number(await self._idlest())
        values = dict(request)
        answer = await worker.ask(str(values.pop("type")), **values)
        yield answer
        if answer["type"] == "ok":
            await self._until_over(worker, str(answer["id"]), _room(request))

    async def hold(self, ingress: str) -> AsyncIterator[Home]:
        """A place for a session that the ingress opens itself: which worker, and no end before the ingress's."""
        yield dataclasses.replace(self._home, worker=await self._idlest())
        while self._processes.exit_code is None:
            await asyncio.sleep(2 * _ASK_S)
            if not await asyncio.to_thread(agent_is_alive, ingress):
                return

    @serve.multiplexed(max_num_models_per_replica=_AVATARS)
    async def _remember(self, avatar_id: str) -> str:
        """Serve tells the routers that the engine here has this avatar in memory."""
        return avatar_id

    async def _idlest(self) -> int:
        return int((await self._pool.status()).get("idlest", 0))

    async def _until_over(self, worker: WorkerClient, session_id: str, room: str | None) -> None:
        """Until neither the session is there, nor anybody in its room: who came second is not held by a call.

        The worker says so at once: a call that lasted longer than its session would count when the next one is placed.
        """
        while self._processes.exit_code is None:
            answer = await worker.ask("over", id=session_id, room=room, within_s=_ASK_S)
            self.check_processes()
            if answer.get("over"):
                return
            if answer["type"] != "ok":
                await asyncio.sleep(_ASK_S)


def _room(request: dict[str, Any]) -> str | None:
    return request.get("room") if request["type"] == "create" else None
