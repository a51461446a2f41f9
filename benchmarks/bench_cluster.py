"""Two Ray nodes on this machine, four calls: what another ingress costs, a killed node, a worker that comes and goes.

    python benchmarks/bench_cluster.py --json benchmarks/results/cluster.json

All nodes share this machine's cores and its loopback: no figure here is of a network. The engine is the tests'
stand-in, because two cores do not carry four calls of the trained avatar beside their callers; what is timed are the
processes around it, which are the real ones. Callers are aiortc peers in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.results import Figure, new_results, read_results, write_results
from stream_server.bench.returning import MISSED_S, ReturningCaller
from stream_server.bench.voice import Microphone, made_voice
from tests.stream_server.ray_cluster import (
    LocalNodes,
    callers_first,
    cluster_server,
    ingresses,
    node_of,
    replica_states,
    until,
    until_ready,
)
from tests.stream_server.server_process import FAKE, ServerProcess

CALLS = 4
PATCHES = 20
ROUNDS = 10
COMMON = ("--no-standby", "--size", "128", "--max-sessions", str(CALLS))


class Bench:
    """Figures by name, as they come in."""

    def __init__(self, missed_s: float) -> None:
        self.figures: dict[str, Figure] = {}
        self._missed_s = missed_s
        self._voice = made_voice(5.0)

    def add(self, name: str, value: float, unit: str, *, n: int | None = None, better: str = "lower") -> None:
        """Note and show one figure."""
        self.figures[name] = Figure(value=value, unit=unit, better="higher" if better == "higher" else "lower", n=n)
        print(f"{name:40} {value:9.3f} {unit}", flush=True)

    def caller(self, url: str) -> ReturningCaller:
        """One call, not begun."""
        return ReturningCaller(url, lambda: Microphone(self._voice), missed_s=self._missed_s)

    async def calls(self, url: str, count: int) -> list[ReturningCaller]:
        """That many calls, begun."""
        callers = [self.caller(url) for _ in range(count)]
        for one in callers:
            await one.start(60.0)
        return callers

    async def ingress(self, server: ServerProcess) -> None:
        """Opening a call, and steering it by its node's ingress and by another's."""
        urls = ingresses(server)
        begun = time.monotonic()
        callers = await self.calls(urls[0], CALLS)
        self.add("offer_to_first_frame", (time.monotonic() - begun) / CALLS, "s", n=CALLS)
        self.add("nodes_used", len({node_of(one.session) for one in callers}), "nodes", better="higher")
        took_ms: dict[str, list[float]] = {url: [] for url in urls}
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            for turn in range(PATCHES):
                for url in urls:
                    begun = time.monotonic()
                    body = {"controls": {"yaw_deg": float(turn)}}
                    answer = await http.patch(f"{url}/v1/sessions/{callers[0].session}", json=body)
                    answer.raise_for_status()
                    took_ms[url].append((time.monotonic() - begun) * 1000)
        own, other = sorted(statistics.median(values) for values in took_ms.values())
        self.add("patch_nearer_ingress_p50", own, "ms", n=PATCHES)
        self.add("patch_other_ingress_p50", other, "ms", n=PATCHES)
        await close(callers)

    async def placement(self, server: ServerProcess) -> None:
        """How far four calls are from two on each node: one after the other on an empty cluster, by both ingresses in
        turn and by one, right after four others have hung up, and all at once, again by both and by one."""
        urls = ingresses(server)
        for name in ("one_by_one", "one_ingress", "after_hang_ups", "at_once", "at_once_one_ingress"):
            uneven, worst = 0, 0
            for turn in range(ROUNDS):
                if name != "after_hang_ups":
                    await until_ready(urls[0], sessions=0)
                step = 0 if name.endswith("one_ingress") else 1
                callers = [self.caller(urls[(number * step + turn) % 2]) for number in range(CALLS)]
                await self._begin(callers, at_once=name.startswith("at_once"))
                placed = Counter(node_of(one.session) for one in callers)
                uneven += max(placed.values()) > CALLS // 2
                worst = max(worst, *placed.values())
                await close(callers)
            self.add(f"placement.{name}.rounds_not_two_and_two", uneven, "rounds", n=ROUNDS)
            self.add(f"placement.{name}.most_on_one_node", worst, "of 4 calls", n=ROUNDS)

    async def _begin(self, callers: list[ReturningCaller], *, at_once: bool) -> None:
        if at_once:
            await asyncio.gather(*(one.start(60.0) for one in callers))
            return
        for one in callers:
            await one.start(60.0)

    async def killed_node(self, server: ServerProcess, nodes: LocalNodes) -> None:
        """Every process of a node killed at once."""
        callers = await self.calls(server.url, CALLS)
        hit = [one for one in callers if node_of(one.session) != nodes.node_ids[0]]
        others = [one for one in callers if one not in hit]
        await asyncio.sleep(3.0)
        killed_ns = time.monotonic_ns()
        nodes.kill(1)
        await until(lambda: all(one.returns for one in hit), 90)
        await asyncio.sleep(5.0)
        self.add("killed_node.calls_on_it", len(hit), "calls", better="higher")
        self.add("killed_node.calls_that_came_back", sum(bool(one.returns) for one in hit), "calls", better="higher")
        returns = [one.returns[0] for one in hit]
        self.add("killed_node.noticed_last", max(one.noticed_ns - killed_ns for one in returns) / 1e9, "s")
        self.add("killed_node.back_first", min(one.back_ns - killed_ns for one in returns) / 1e9, "s")
        self.add("killed_node.back_last", max(one.back_ns - killed_ns for one in returns) / 1e9, "s")
        self.add("killed_node.longest_without_picture", max(one.back_ns - one.last_ns for one in returns) / 1e9, "s")
        self.add("killed_node.other_calls", len(others), "calls", better="higher")
        self.add("killed_node.other_calls_touched", sum(bool(one.returns) for one in others), "calls")
        longest_ms = max(longest_gap_ms(one, killed_ns) for one in others)
        self.add("killed_node.other_calls_longest_frame_interval", longest_ms, "ms")
        await close(callers)

    async def scaling(self, url: str) -> None:
        """1 -> 2 -> 1 workers under calls that go on."""
        callers = await self.calls(url, CALLS)
        begun = time.monotonic()
        await until(lambda: replica_states().get("RUNNING") == 2, 300)
        self.add("scale_out.last_call_to_running", time.monotonic() - begun, "s")
        late = await self.calls(url, 2)
        stay = [callers[0], late[0]]
        impatient = sum(len(one.returns) for one in callers)
        self.add("scale_out.calls_that_lost_patience", impatient, "calls")
        sessions = [one.session for one in stay]
        begun = time.monotonic()
        await close([one for one in [*callers, *late] if one not in stay])
        await until(lambda: replica_states().get("RUNNING") == 1, 120)
        self.add("scale_in.hang_up_to_draining", time.monotonic() - begun, "s")
        await asyncio.sleep(5.0)
        dropped = sum(one.session != before for one, before in zip(stay, sessions, strict=True))
        self.add(
            "scale_in.workers_that_wait_for_calls", replica_states().get("STOPPING", 0), "workers", better="higher"
        )
        self.add("scale_in.calls_dropped", dropped, "calls")
        begun = time.monotonic()
        await close(stay)
        await until(lambda: replica_states() == {"RUNNING": 1}, 120)
        self.add("scale_in.last_hang_up_to_gone", time.monotonic() - begun, "s")


def longest_gap_ms(caller: ReturningCaller, since_ns: int) -> float:
    """The longest time between two pictures of a call's present connection."""
    assert caller.caller.pictures is not None
    came = [frame.arrived_ns for frame in caller.caller.pictures.frames if frame.arrived_ns >= since_ns]
    return max((after - before) / 1e6 for before, after in itertools.pairwise(came))


async def close(callers: list[ReturningCaller]) -> None:
    """Hang up all."""
    await asyncio.gather(*(one.close() for one in callers))


def on_two_nodes(arguments: Sequence[str], use: Callable[[ServerProcess, LocalNodes], None]) -> None:
    """A cluster and its server, for the length of `use`."""
    with LocalNodes(2) as nodes, cluster_server(nodes, *COMMON, *arguments, pipeline=FAKE) as server:
        use(server, nodes)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--missed", type=float, default=MISSED_S, help="seconds without heartbeat that mean it is gone")
    parser.add_argument(
        "--part", choices=("all", "scale", "kill", "place"), default="all", help="others stay in the file"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    bench = Bench(options.missed)
    if options.part != "all" and options.json is not None and options.json.exists():
        bench.figures |= read_results(options.json).figures

    def fixed(server: ServerProcess, nodes: LocalNodes) -> None:
        with callers_first():
            asyncio.run(bench.placement(server))
            if options.part != "place":
                asyncio.run(bench.ingress(server))
                asyncio.run(bench.killed_node(server, nodes))

    def scaled(server: ServerProcess, nodes: LocalNodes) -> None:
        with nodes.connected(), callers_first():
            asyncio.run(bench.scaling(server.url))

    if options.part in ("all", "scale"):
        delays = ("--upscale-delay", "1", "--downscale-delay", "3")
        on_two_nodes(("--min-replicas", "1", "--max-replicas", "2", *delays), scaled)
    if options.part != "scale":
        many = ("--offers-per-minute", "6000")  # all callers have one address
        on_two_nodes(("--min-replicas", "2", "--max-replicas", "2", *many), fixed)
    if options.json is not None:
        data = "two Ray nodes, stand-in engine and four aiortc callers on one machine"
        command = f"python benchmarks/bench_cluster.py --missed {options.missed:g}"
        write_results(options.json, new_results(bench.figures, command=command, data=data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
