"""Which replica Ray Serve's router gives a call, with our settings: what docs/scaling.md promises, and what not.

Serve's own router on replicas that are made up; no Ray runs.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is in the extra cluster: pip install 'nerf-lipsync[cluster]'")

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
        if self.silent:
            await asyncio.sleep(deadline_s + 60)
        return self.calls


def router(*replicas: Replica) -> Any:
    """Of a node's agent, with its settings."""
    from ray.serve._private.common import DeploymentHandleSource
    from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter

    from stream_server.cluster.node_agent import _ROUTER

    made: Any = PowerOfTwoChoicesRequestRouter(
        deployment_id=replicas[0].replica_id.deployment_id,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    made.queue_len_response_deadline_s = made.max_queue_len_response_deadline_s = 0.05  # 1 and 2 s are served
    made.replica_queue_len_cache._staleness_timeout_s = float(_ROUTER["RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S"])
    made.update_replicas(list(replicas))
    return made


async def choose(of: Any) -> Replica:
    """The replica of a new call, which it does not have yet."""
    from ray.serve._private.common import RequestMetadata
    from ray.serve._private.request_router.common import PendingRequest

    number = str(next(NUMBERS))
    request = PendingRequest(
        args=[], kwargs={}, metadata=RequestMetadata(request_id=number, internal_request_id=number)
    )
    chosen: Replica = await of._choose_replica_for_request(request)
    return chosen


async def place(of: Any) -> Replica:
    """A call, opened."""
    chosen = await choose(of)
    chosen.calls += 1
    return chosen


def test_calls_one_after_the_other_are_two_and_two() -> None:
    async def run() -> None:
        for _ in range(20):
            one, two = Replica("one"), Replica("two")
            ingresses = [router(one, two), router(one, two)]
            for turn in range(2 * PLACES):
                await place(ingresses[turn % 2])
                assert abs(one.calls - two.calls) <= 1

    asyncio.run(run())


def test_what_has_ended_but_still_counts_makes_three_and_one() -> None:
    """Once seen: four calls right after four others, of which one replica did not know yet that its two were over."""

    async def run() -> None:
        outcomes = set()
        for _ in range(40):
            one, two = Replica("one"), Replica("two")
            ingress = router(one, two)
            two.calls = 2
            for _ in range(3):
                await place(ingress)
            two.calls -= 2
            await place(ingress)
            outcomes.add((one.calls, two.calls))
        assert outcomes == {(3, 1), (2, 2)}

    asyncio.run(run())


def test_calls_in_the_same_moment_do_not_see_each_other() -> None:
    async def run() -> None:
        one, two = Replica("one"), Replica("two")
        ingresses = [router(one, two) for _ in range(4)]
        most = 0
        for _ in range(30):
            chosen = await asyncio.gather(*(choose(ingress) for ingress in ingresses))
            most = max(most, *Counter(replica.replica_id.unique_id for replica in chosen).values())
        assert most > 2

    asyncio.run(run())


def test_a_silent_or_full_replica_is_passed_over() -> None:
    async def run() -> None:
        one, two = Replica("one"), Replica("two")
        ingress = router(one, two)
        one.silent = True
        assert {await choose(ingress) for _ in range(3)} == {two}
        one.silent, one.calls, two.calls = False, PLACES, PLACES - 1
        assert await choose(ingress) is two
        assert one.asked >= 4

    asyncio.run(run())


def test_an_old_count_is_never_trusted() -> None:
    async def run() -> None:
        one, two = Replica("one"), Replica("two")
        ingress = router(one, two)
        for busy, idle in ((one, two), (two, one)) * 3:
            busy.calls, idle.calls = 1, 0
            assert await choose(ingress) is idle

    asyncio.run(run())
