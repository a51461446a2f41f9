"""Which replica a call goes to: the one with the fewest calls, by its own count of this moment.

Ray Serve's extension point for it (`request_router_class`). Serve pickles the module of that class by value, where the
application is deployed, and every node's router is made from those bytes: what is set here holds on all nodes, while
Serve's own router takes its settings from the environment of the deploying process, not of the one it runs in.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from typing import Any

from ray.serve.request_router import (
    FIFOMixin,
    LocalityMixin,
    MultiplexMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

__all__ = ["FewestCallsRouter"]

_COUNT_S = 0.5
"""How long a replica has to say how many calls it has; calls that come back from a dead node wait for it that long."""
_ARRIVE_S = 1.0
"""How long the next call waits for the one before to be counted."""
_SILENCE_S = 2.0
"""How long a replica that did not answer is not asked while others do: not every call shall wait for it."""


class FewestCallsRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    """Asks all replicas, for each call: calls are rare and long, and other nodes' routers fill the same replicas.

    Among replicas with equally few calls one that has the call's avatar is first, then one with the fewest avatars,
    then one of the router's own node: two ingresses that choose in the same moment seldom choose the same.

    Calls are placed one after the other, the next one once the one before has arrived and is counted. Ingresses do not
    wait for each other: of calls at k ingresses in the same moment k may go to one replica.
    """

    max_num_routing_tasks_cap = 1
    queue_len_response_deadline_s = max_queue_len_response_deadline_s = _COUNT_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._arrived = asyncio.Event()
        self._arrived.set()
        self._silent_until_s: dict[ReplicaID, float] = {}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas that have a place, each a rank of its own; the first one gets the call."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVE_S):
                await self._arrived.wait()
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # all full, or none answers: ask again a little later
        calls = await self._calls(candidate_replicas)
        free = [one for one in candidate_replicas if calls.get(one.replica_id, math.inf) < one.max_ongoing_requests]
        if free:
            self._arrived.clear()
        avatar = pending_request.metadata.multiplexed_model_id if pending_request is not None else ""
        has_avatar = _ranks(self.rank_replicas_via_multiplex(free, avatar))
        is_near = _ranks(self.rank_replicas_via_locality(free))

        def order(replica: RunningReplica) -> tuple[float, ...]:
            identity = replica.replica_id
            return calls[identity], has_avatar[identity] if avatar else 0, is_near[identity], random.random()

        return [[replica] for replica in sorted(free, key=order)]

    async def _calls(self, replicas: list[RunningReplica]) -> dict[ReplicaID, int]:
        """How many calls replicas have, of those that answer. Serve's cache, which it reads next, has it then too."""
        silent = {identity for identity, until_s in self._silent_until_s.items() if until_s > time.monotonic()}
        awake = [replica for replica in replicas if replica.replica_id not in silent]
        answers = await self._probe_queue_lens(awake or replicas, 0)
        until_s = time.monotonic() + _SILENCE_S
        now_silent = {replica.replica_id: until_s for replica, calls in answers if calls is None}
        self._silent_until_s = {identity: self._silent_until_s[identity] for identity in silent} | now_silent
        return {replica.replica_id: calls for replica, calls in answers if calls is not None}

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """A replica has taken the call that was sent to it, or refused it."""
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        self._arrived.set()


def _ranks(ranked: list[list[RunningReplica]]) -> dict[ReplicaID, int]:
    return {replica.replica_id: rank for rank, replicas in enumerate(ranked) for replica in replicas}
