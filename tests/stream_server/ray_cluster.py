"""Several Ray nodes on this machine, and `nerf-lipsync serve --cluster` on them, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import ray
from ray._private import services
from ray.cluster_utils import Cluster

from stream_server.cluster.names import NODE_DIGITS
from stream_server.engine.parent import prefer_real_time
from tests.stream_server.server_process import ROOT, ServerProcess

OBJECT_STORE_BYTES = 80_000_000
START_S, START_TRIES = 45.0, 6
AGENT_PORTS = ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
"""Named beforehand: a raylet aborts when an agent that was to choose one itself does not do so within 15 seconds."""
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""Ray finds a dead node out after three seconds; on a busy machine it takes living ones for dead."""
PATIENT = QUICK | {"health_check_timeout_ms": 10_000, "health_check_failure_threshold": 6}
LITTLE = {"no_monitor": True, "include_log_monitor": False}
"""Processes that nobody here needs, and that start at the same time as those that must be there soon."""
SETTINGS = {
    "PYTHONPATH": os.fspath(ROOT),
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class LocalNodes:
    """Ray nodes with one CPU each; the first is the head. Each is a process tree that can be killed like a machine."""

    def __init__(self, count: int, health: dict[str, int] = QUICK) -> None:
        with changed_environment(SETTINGS), patient_start():
            self._cluster = Cluster()
            self.pids: list[int] = []
            self.node_ids: list[str] = []
            for number in range(count):
                node = self._start({"_system_config": health} if number == 0 else {})
                self.pids.append(_raylet_pid(node))
                self.node_ids.append(str(node.node_id)[:NODE_DIGITS])
        self.address = str(self._cluster.address)

    def _start(self, more: dict[str, Any]) -> Any:
        """One node; tried again when its raylet gave up on its own agent, as it does on a busy machine."""
        for attempt in range(START_TRIES):
            ports = dict(zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True))
            size: dict[str, Any] = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
            try:
                return self._cluster.add_node(wait=False, include_dashboard=False, **size, **ports, **LITTLE, **more)
            except Exception:  # Ray's own
                if attempt == START_TRIES - 1:
                    raise
        raise AssertionError

    def __enter__(self) -> LocalNodes:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """As a Ray driver."""
        with changed_environment(SETTINGS):
            ray.init(address=self.address, namespace="tests", log_to_driver=False, configure_logging=False)
        try:
            yield
        finally:
            ray.shutdown()

    def kill(self, number: int) -> int:
        """SIGKILL for everything of a node at once, as if its power had failed; how many processes that were."""
        pids = _descendants(self.pids[number])
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def patient_start() -> Iterator[None]:
    """Ray gives a node 30 s to come up, by a constant; beside other programs that is too little."""
    look = services.get_node

    def get_node(address: str, node_id: str) -> Any:
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                return look(address, node_id)
            except RuntimeError:
                if time.monotonic() > deadline_s:
                    raise

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = look


def cluster_server(nodes: LocalNodes, *arguments: str, pipeline: str | None, timeout_s: float = 400.0) -> ServerProcess:
    """`serve --cluster`, ready."""
    with changed_environment(SETTINGS):
        return ServerProcess(
            "--cluster",
            "--cluster-address",
            nodes.address,
            "--timecode",
            *arguments,
            pipeline=pipeline,
            timeout_s=timeout_s,
        )


def ingresses(server: ServerProcess) -> list[str]:
    """URLs of the fronts, from the ready line."""
    return server.ready_line.split("ingresses=")[1].split(",")


@contextlib.contextmanager
def callers_first() -> Iterator[None]:
    """This process goes before ordinary ones, as media workers do: a caller who starves takes every server for dead."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    prefer_real_time(-10)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def node_of(session_id: str) -> str:
    """The node that a session's id names."""
    return session_id[:NODE_DIGITS]


def replica_states() -> dict[str, int]:
    """How many replicas are in which state, as Serve counts them; within `LocalNodes.connected`."""
    from ray import serve

    app = serve.status().applications["nerf-lipsync"]
    return {str(state): count for state, count in app.deployments["AvatarWorker"].replica_states.items()}


async def until_ready(url: str, **wanted: int) -> None:
    """Until an ingress's account of the whole (`sessions`, `limit`) is this; nodes may be slow to give theirs."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http, asyncio.timeout(90):
        while not wanted.items() <= (await http.get(f"{url}/readyz")).json().items():  # noqa: ASYNC110 - nor here
            await asyncio.sleep(0.1)


async def until(condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait for something in other processes."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - nobody here can say when
            await asyncio.sleep(0.2)


@contextlib.contextmanager
def changed_environment(values: dict[str, str]) -> Iterator[None]:
    """For processes that start within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _raylet_pid(node: Any) -> int:
    (info,) = node.all_processes["raylet"]
    return int(info.process.pid)


def _descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [one for child in task.read_text().split() for one in _descendants(int(child))]
    return found
