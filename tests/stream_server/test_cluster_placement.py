"""Which replica Ray Serve gives a call, with our router in it: what docs/scaling.md promises, and what not.

Replicas are made up, and no Ray runs; the router is the one that Serve makes from a deployment's settings.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is in the extra cluster: pip install 'nerf-lipsync[cluster]'")

from stream_server.cluster.settings import ClusterSettings
from stream_server.config import ServerConfig
from tests.stream_server.server_process import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
PLACES = 4
NUMBERS = itertools.count()


class Replica:
    """A replica as the router sees it; `silent`: does not say how many calls it has."""

    def __init__(self, name: str) -> None:
        from ray.serve._private.common import DeploymentID, ReplicaID  # warns when it is imported

        self.replica_id = ReplicaID(name, DeploymentID("AvatarWorker", "nerf-lipsync"))
        self.max_ongoing_requests = PLACES
        self.multiplexed_model_ids: set[str] = set()
        self.node_id, self.availability_zone = name, None
        self.calls = 0
        self.asked = 0
        self.silent = False

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.asked += 1
        calls = self.calls
        await asyncio.sleep(deadline_s + 60 if self.silent else 0.001)
        return calls


def named(count: int) -> list[Replica]:
    return [Replica(f"node-{number}") for number in range(count)]


def serve_config() -> Any:
    """What Serve is given, and keeps as bytes for all routers."""
    from stream_server.cluster.run import deployment

    config = ServerConfig(max_sessions=PLACES)
    return deployment(config, ClusterSettings())._bound_deployment._deployment_config.request_router_config


def router(*replicas: Replica, node: str = "elsewhere", patience_s: float = 5.0) -> Any:
    """Of a node's agent; `patience_s` is 0.5 where it serves, but this test may run beside others."""
    from ray.serve._private.common import DeploymentHandleSource

    made: Any = serve_config().get_request_router_class()(
        deployment_id=replicas[0].replica_id.deployment_id,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
        self_node_id=node,
        prefer_local_node_routing=False,
    )
    made.queue_len_response_deadline_s = made.max_queue_len_response_deadline_s = patience_s
    made.update_replicas(list(replicas))
    return made


async def place(of: Any, avatar: str = "", takes_s: float = 0.002) -> Replica:
    """A call, opened, as Serve does: chosen, sent, and counted by its replica a little later."""
    from ray.serve._private.common import RequestMetadata
    from ray.serve._private.request_router.common import PendingRequest

    number = str(next(NUMBERS))
    metadata = RequestMetadata(request_id=number, internal_request_id=number, multiplexed_model_id=avatar)
    chosen: Replica = await of._choose_replica_for_request(PendingRequest(args=[], kwargs={}, metadata=metadata))
    of.on_send_request(chosen.replica_id)
    await asyncio.sleep(takes_s)
    chosen.calls += 1
    of.on_new_queue_len_info(chosen.replica_id, chosen.calls)
    return chosen


def spread(replicas: list[Replica]) -> int:
    counts = [replica.calls for replica in replicas]
    return max(counts) - min(counts)


@pytest.mark.parametrize("nodes", [2, 3, 5])
@pytest.mark.parametrize("ingresses", [1, 2])
def test_calls_one_after_the_other_differ_by_one_at_most(nodes: int, ingresses: int) -> None:
    async def run() -> None:
        for _ in range(5):
            replicas = named(nodes)
            routers = [router(*replicas) for _ in range(ingresses)]
            for turn in range(nodes * PLACES):
                await place(routers[turn % ingresses])
                assert spread(replicas) <= 1

    asyncio.run(run())


def test_what_another_ingress_places_or_ends_is_seen_at_once() -> None:
    """Serve's own router would trust its own counts for ten seconds."""

    async def run() -> None:
        one, two = named(2)
        ingress = router(one, two)
        for busy, idle in ((one, two), (two, one)) * 3:
            busy.calls, idle.calls = 1, 0
            assert await place(ingress) is idle

    asyncio.run(run())


def test_calls_at_one_ingress_in_the_same_moment_see_each_other() -> None:
    async def run() -> None:
        for _ in range(10):
            replicas = named(2)
            ingress = router(*replicas)
            await asyncio.gather(*(place(ingress, takes_s=0.01) for _ in range(4)))
            assert spread(replicas) == 0

    asyncio.run(run())


def test_calls_at_two_ingresses_in_the_same_moment_are_three_and_one_at_worst() -> None:
    async def run() -> None:
        for turn in range(20):
            replicas = named(2)
            ingresses = [router(*replicas), router(*replicas)]
            by = (0, 1, 0, 1) if turn % 2 else (0, 0, 0, 1)
            await asyncio.gather(*(place(ingresses[which], takes_s=0.01) for which in by))
            assert spread(replicas) <= 2

    asyncio.run(run())


def test_calls_at_many_ingresses_in_the_same_moment_do_not_see_each_other() -> None:
    async def run() -> None:
        most = 0
        for _ in range(30):
            replicas = named(2)
            chosen = await asyncio.gather(*(place(router(*replicas)) for _ in range(4)))
            most = max(most, *Counter(replica.replica_id.unique_id for replica in chosen).values())
        assert most > 2

    asyncio.run(run())


def test_the_avatar_and_then_the_own_node_decide_between_equals_only() -> None:
    async def run() -> None:
        for _ in range(5):
            one, two, three = named(3)
            two.multiplexed_model_ids = {"other"}
            ingress = router(one, two, three, node="node-2")
            assert await place(ingress, "other") is two
            assert await place(ingress, "other") is three  # fewer calls come first
            assert await place(ingress, "other") is one
            assert await place(ingress) is three
            assert await place(ingress, "other") is two

    asyncio.run(run())


def test_a_silent_or_full_replica_is_passed_over() -> None:
    async def run() -> None:
        one, two = named(2)
        ingress = router(one, two, patience_s=0.2)
        one.silent = True
        assert {await place(ingress) for _ in range(3)} == {two}
        assert one.asked == 2  # when it was new, and once: others answer
        one, two = named(2)
        ingress = router(one, two)
        one.calls, two.calls = PLACES, PLACES - 1
        assert await place(ingress) is two
        waits = asyncio.create_task(place(ingress))
        await asyncio.sleep(0.1)
        assert not waits.done()
        one.calls -= 1
        assert await waits is one

    asyncio.run(run())


def test_a_call_that_never_arrives_holds_the_next_for_a_second_only() -> None:
    async def run() -> None:
        ingress = router(*named(2))
        lost = asyncio.create_task(place(ingress, takes_s=60))
        await asyncio.sleep(0.05)
        begun_s = time.monotonic()
        await place(ingress)
        assert time.monotonic() - begun_s < 10
        lost.cancel()

    asyncio.run(run())


def test_a_call_that_is_given_up_holds_nobody() -> None:
    async def run() -> None:
        one, two = named(2)
        one.calls = two.calls = PLACES
        ingress = router(one, two)
        given_up = asyncio.create_task(place(ingress))
        await asyncio.sleep(0.05)
        given_up.cancel()
        two.calls -= 1
        assert await place(ingress) is two

    asyncio.run(run())


def test_all_nodes_route_as_the_deploying_process_does() -> None:
    """Serve pickles the router by value: what it is in another process depends on no setting there."""
    text = (
        "import sys; from ray import cloudpickle; made = cloudpickle.loads(sys.stdin.buffer.read());"
        "print(made.__name__, made.queue_len_response_deadline_s, made.max_num_routing_tasks_cap)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "7"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        input=serve_config().get_serialized_request_router_cls(),
        env=environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().split() == ["FewestCallsRouter", "0.5", "1"]
