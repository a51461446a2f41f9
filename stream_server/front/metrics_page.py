"""`/metrics` in Prometheus's text format, on a loopback port of its own: what all workers have counted.

Times are in seconds. Series carry the worker's number, so that a worker that was started again is an ordinary reset.
No series names a session, a caller or an avatar.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stream_server.front.admission import Admission
from stream_server.front.outcomes import Outcomes
from stream_server.front.worker_client import WorkerPool
from stream_server.metrics import BUCKETS_MS

__all__ = ["make_metrics_app", "metrics_text"]

_PREFIX = "nerf_lipsync_"
_EDGES = [*(str(edge / 1000) for edge in BUCKETS_MS), "+Inf"]
_COUNTERS = {
    "frames_sent": "New pictures that left",
    "frames_late": "Of the pictures sent, those that left after their turn because none was in time",
    "frames_repeated": "Pictures sent again because none came in time",
    "frames_dropped": "Pictures that came too late to be sent",
    "packets_received": "Microphone packets that came",
    "packets_concealed": "Microphone packets that were lost and made up",
    "hops_sent": "Pieces of sound given to the model",
    "hops_dropped": "Pieces of sound the model was too late for",
}


def make_metrics_app(pool: WorkerPool, admission: Admission, outcomes: Outcomes) -> Starlette:
    """The application of the metrics port. It answers to loopback names only."""

    async def page(_request: Request) -> Response:
        answers = await asyncio.gather(*pool.ask_all("status", metrics=True))
        return Response(metrics_text(answers, admission, outcomes), media_type=CONTENT_TYPE_LATEST)

    guard = Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"], www_redirect=False)
    return Starlette(routes=[Route("/metrics", page)], middleware=[guard])


def metrics_text(answers: Iterable[Mapping[str, Any]], admission: Admission, outcomes: Outcomes) -> bytes:
    """The page, from the workers' answers to `status` in order; one that is away answers with a problem."""
    registry = CollectorRegistry()
    registry.register(_Page(list(answers), admission, outcomes))
    return generate_latest(registry)


class _Page(Collector):
    """One scrape."""

    def __init__(self, answers: list[Mapping[str, Any]], admission: Admission, outcomes: Outcomes) -> None:
        self._all = answers
        self._answers = [(str(n), answer) for n, answer in enumerate(answers) if answer["type"] == "ok"]
        self._admission = admission
        self._outcomes = outcomes

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._times()
        yield from self._counts()
        yield from self._levels()

    def _times(self) -> Iterator[Metric]:
        total = HistogramMetricFamily(
            _PREFIX + "frame_seconds", "From the middle of a frame's sound heard to its picture sent", labels=["worker"]
        )
        stages = HistogramMetricFamily(
            _PREFIX + "stage_seconds",
            "A frame's time by stage; the stages sum to the frame's",
            labels=["worker", "stage"],
        )
        parts = HistogramMetricFamily(
            _PREFIX + "engine_part_seconds", "The engine's time for a hop, by its own parts", labels=["worker", "part"]
        )
        for worker, answer in self._answers:
            metrics = answer["metrics"]
            _add(total, [worker], metrics["total"])
            for family, histograms in ((stages, metrics["stages"]), (parts, metrics["parts"])):
                for name, histogram in histograms.items():
                    _add(family, [worker, name], histogram)
        yield from (total, stages, parts)

    def _counts(self) -> Iterator[Metric]:
        for name, text in _COUNTERS.items():
            family = CounterMetricFamily(_PREFIX + name, text, labels=["worker"])
            for worker, answer in self._answers:
                family.add_metric([worker], answer["metrics"]["counters"][name])
            yield family
        opened = CounterMetricFamily(_PREFIX + "sessions_opened", "Sessions opened", labels=["worker", "source"])
        for worker, answer in self._answers:
            for source, count in answer["metrics"]["opened"].items():
                opened.add_metric([worker, source], count)
        yield opened
        refused = CounterMetricFamily(_PREFIX + "sessions_refused", "Sessions refused, by why", labels=["reason"])
        for reason, count in self._outcomes.refused.items():
            refused.add_metric([reason], count)
        yield refused
        responses = CounterMetricFamily(_PREFIX + "http_responses", "Answers of the HTTP server", labels=["status"])
        for status, count in self._outcomes.responses.items():
            responses.add_metric([str(status)], count)
        yield responses

    def _levels(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(_PREFIX + "worker_up", "Whether the media worker answers", labels=["worker"])
        for number, answer in enumerate(self._all):
            up.add_metric([str(number)], float(answer["type"] == "ok"))
        engine = GaugeMetricFamily(_PREFIX + "engine_up", "Whether the worker has its engine", labels=["worker"])
        sessions = GaugeMetricFamily(_PREFIX + "sessions", "Sessions open now", labels=["worker"])
        stuck = GaugeMetricFamily(
            _PREFIX + "engine_unanswered_seconds", "Age of the oldest hop without an answer", labels=["worker"]
        )
        for worker, answer in self._answers:
            engine.add_metric([worker], float(answer["avatar"] is not None))
            sessions.add_metric([worker], answer["sessions"])
            stuck.add_metric([worker], answer["stuck_s"])
        limit = GaugeMetricFamily(_PREFIX + "sessions_limit", "Sessions this machine is given or measured to hold")
        for _, answer in self._answers:
            if answer["avatar"] is not None:
                busy_ms = max(other["busy_ms_per_hop"] for _, other in self._answers)
                limit.add_metric([], self._admission.limit(answer["avatar"], busy_ms))
                break
        yield from (up, engine, sessions, stuck, limit)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Mapping[str, Any]) -> None:
    summed = accumulate(histogram["counts"])
    family.add_metric(labels, list(zip(_EDGES, map(float, summed), strict=True)), histogram["sum_ms"] / 1000)
