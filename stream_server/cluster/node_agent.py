"""One Ray actor a node: owns the node's front, answers it as its gate, and is the door to the node's replicas.

It is a plain named actor and not a Serve replica, because what concerns an open session must reach the node it lives
on, even when all of its replica's places are taken; Serve's handles choose replicas themselves and queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import ray
from ray.util import get_node_ip_address
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stream_server.cluster.door import Door
from stream_server.cluster.gate import Answer, Gate
from stream_server.cluster.names import NAMESPACE, NODE_DIGITS, Home, agent_name
from stream_server.cluster.processes import Processes, ask_to_stop, node_folder
from stream_server.cluster.view import RayView
from stream_server.config import ServerConfig, is_loopback
from stream_server.engine import protocol
from stream_server.serve import Role, bind, url_of

__all__ = ["NodeAgent", "digest", "ensure_agent"]

log = logging.getLogger(__name__)

_FRONT: Role = "front"


class NodeAgent:
    """The actor. Its methods are what other nodes' gates, replicas and the command call."""

    def __init__(self, config_json: str) -> None:
        config = ServerConfig.from_json(config_json)
        self._digest = digest(config_json)
        node_id = ray.get_runtime_context().get_node_id()
        node = node_id[:NODE_DIGITS]
        self._folder = node_folder(node_id)
        self._listener = bind(config.host, config.port, "--port")
        self._url = _public_url(self._listener.getsockname())
        self._door = Door(self._folder, node, config.workers)
        front = dataclasses.replace(config, workers=1, cluster=True)
        self._front = Processes(front, self._folder / _FRONT, (_FRONT,), self._listener)
        view = RayView(node, self._url, self._door, config)
        gate = Gate(self._front.folder / "worker-0.sock", view, config.max_sessions)
        threading.Thread(target=_run_gate, args=(gate,), name="gate", daemon=True).start()

    async def about(self) -> dict[str, str]:
        """The front's URL, and which settings it was started with."""
        if self._front.exit_code is not None:
            raise RuntimeError(f"the front ended with exit code {self._front.exit_code}")
        return {"url": self._url, "digest": self._digest}

    async def ask(self, home: Home, request: dict[str, Any]) -> Answer:
        """A worker's answer."""
        return await self._door.ask(home, request)

    async def statuses(self) -> dict[Home, Answer]:
        """Of this node's workers."""
        return await self._door.statuses()

    async def listen(self, line: str, home: Home, request: dict[str, Any]) -> AsyncIterator[protocol.Message]:
        """An assistant's stream outward."""
        async for message in self._door.listen(line, home, request):
            yield message

    async def push(self, line: str, body: dict[str, Any], blob: bytes) -> None:
        """And inward: calls of one caller begin in order, and nothing here waits."""
        self._door.push(line, body, blob)

    async def hang_up(self, line: str) -> None:
        """End an assistant's stream."""
        self._door.hang_up(line)

    async def stop(self) -> None:
        """The cluster stops: end the node's calls, then its front."""
        ask_to_stop(self._folder)
        await asyncio.to_thread(self._front.close)
        self._listener.close()


def digest(config_json: str) -> str:
    """Tells settings apart."""
    return hashlib.sha256(config_json.encode()).hexdigest()[:16]


def ensure_agent(node_id: str, config_json: str) -> Any:
    """The node's agent; started if it is not there."""
    return (
        ray.remote(NodeAgent)
        .options(
            name=agent_name(node_id),
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_concurrency=1000,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote(config_json)
    )


def _public_url(address: tuple[Any, ...]) -> str:
    """What callers elsewhere are told: NERF_LIPSYNC_INGRESS_URL where `ray start` runs, or the node's own address."""
    given = os.environ.get("NERF_LIPSYNC_INGRESS_URL")
    if given:
        return given.rstrip("/")
    host = str(address[0])
    return url_of(address if is_loopback(host) else (get_node_ip_address(), address[1]))


def _run_gate(gate: Gate) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(gate.run())
