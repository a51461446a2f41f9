"""`nerf-lipsync serve --cluster`: deploys the avatar workers on a Ray cluster, and ends them all when it ends.

The command is not in the way of calls: killed, it leaves everything running, and started again with the same
settings it takes over what runs.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import ApplicationStatus

from stream_server.avatar_folders import Catalogue
from stream_server.cluster.agents import find_agent, nodes_with_agents
from stream_server.cluster.avatar_worker import AvatarWorker
from stream_server.cluster.names import NAMESPACE
from stream_server.cluster.node_agent import digest, ensure_agent
from stream_server.cluster.router import FewestCallsRouter
from stream_server.cluster.settings import ClusterSettings, check_for_cluster
from stream_server.cluster.view import APP
from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError
from stream_server.log_setup import set_up_logging
from stream_server.serve import ready_line, with_record_folder

__all__ = ["run_cluster"]

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_ENSURE_EVERY = 10  # looks
_END_S = 20.0
_FAILED = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY)


class _Stop:
    """Whether a signal came. No `threading.Event`: the code that is interrupted may hold its lock."""

    def __init__(self) -> None:
        self._signalled = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True

    def wait(self, timeout_s: float) -> bool:
        if not self._signalled:
            time.sleep(timeout_s)
        return self._signalled


def run_cluster(config: ServerConfig, settings: ClusterSettings) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit code.

    Raises:
        ServerConfigError: Settings that a cluster does not take, or there is no Ray at the address.
    """
    check_for_cluster(config)
    config = with_record_folder(config)
    Catalogue.find(config.avatar, config.avatars, config.backgrounds)
    set_up_logging("serve", config.log_level, config.log_format)
    logging.getLogger("ray.serve").setLevel(config.log_level)
    try:
        ray.init(
            address=settings.address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.WARNING,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError) as error:
        raise ServerConfigError(
            f"no Ray cluster answers at {settings.address!r} ({' '.join(str(error).split())[:200]}); start one with "
            "`ray start --head`, and `ray start --address HOST:6379` on each further node"
        ) from error
    stop = _Stop()
    previous = {n: signal.signal(n, stop.on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _serve(config, settings, stop)
    finally:
        _end_all()
        ray.shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def deployment(config: ServerConfig, settings: ClusterSettings) -> Any:
    """The Serve application: replicas of the avatar worker, as many as the calls want."""
    places = config.max_sessions
    as_deployment: Any = serve.deployment
    router: Any = FewestCallsRouter
    return (
        as_deployment(AvatarWorker)
        .options(
            max_ongoing_requests=places,
            ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
            autoscaling_config=AutoscalingConfig(
                min_replicas=settings.min_replicas,
                max_replicas=settings.max_replicas,
                target_ongoing_requests=settings.target_sessions(places),
                upscale_delay_s=settings.upscale_delay_s,
                downscale_delay_s=settings.downscale_delay_s,
                look_back_period_s=settings.look_back_s,
                metrics_interval_s=min(2.0, settings.look_back_s),
            ),
            request_router_config=RequestRouterConfig(request_router_class=router),
            graceful_shutdown_timeout_s=settings.drain_s,
            graceful_shutdown_wait_loop_s=1.0,
            health_check_period_s=2.0,
            health_check_timeout_s=15.0,
        )
        .bind(config.to_json())
    )


def _serve(config: ServerConfig, settings: ClusterSettings, stop: _Stop) -> int:
    text = config.to_json()
    _end_agents_of_other_settings(text)
    serve.start(proxy_location="Disabled")  # each node's front is its own HTTP server: see docs/scaling.md
    target = serve.RunTarget(deployment(config, settings), name=APP, route_prefix=None)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    node = ray.get_runtime_context().get_node_id()
    announced = False
    looks = 0
    while not stop.wait(_LOOK_S):
        if looks % _ENSURE_EVERY == 0:
            agent = ensure_agent(node, text)
        looks += 1
        if announced:
            continue
        status = serve.status().applications.get(APP)
        if status is not None and status.status in _FAILED:
            sys.stderr.write(f"nerf-lipsync: the avatar workers do not start: {status.message.strip()[-600:]}\n")
            return 1
        if status is not None and status.status == ApplicationStatus.RUNNING:
            announced = _announce(config, agent)
    return 0


def _announce(config: ServerConfig, agent: Any) -> bool:
    """Print the ready line, if this node's front and a worker of this cluster answer."""
    agents = _agents()
    try:
        url = str(ray.get(agent.about.remote(), timeout=_END_S)["url"])
        ends = [str(about["url"]) for about in ray.get([one.about.remote() for one in agents], timeout=_END_S)]
        found = ray.get([one.statuses.remote() for one in agents], timeout=_END_S)
    except (GetTimeoutError, RayActorError):  # `_serve` starts a dead one again
        return False
    loaded = [s for statuses in found for s in statuses.values() if s["avatar"] is not None]
    if not loaded:
        return False
    line = ready_line(url, loaded[0]["avatar"], config.size)
    sys.stdout.write(f"{line} ingresses={','.join(sorted(ends))}\n")
    sys.stdout.flush()
    return True


def _agents() -> list[Any]:
    found = [find_agent(node) for node in nodes_with_agents()]
    return [agent for agent in found if agent is not None]


def _end_agents_of_other_settings(config_json: str) -> None:
    """What an earlier command left, if it was not this one's like."""
    for agent in _agents():
        try:
            if ray.get(agent.about.remote(), timeout=_END_S)["digest"] == digest(config_json):
                continue
            ray.get(agent.stop.remote(), timeout=_END_S)
        except RayError as error:
            log.warning("an agent of an earlier run does not answer: %s", type(error).__name__)
        ray.kill(agent)


def _end_all() -> None:
    """Callers hear of it first; then replicas have no call to wait for."""
    agents = _agents()
    _ended, silent = ray.wait([agent.stop.remote() for agent in agents], num_returns=len(agents), timeout=_END_S)
    if silent:
        log.warning("%d of %d nodes did not end their calls in time", len(silent), len(agents))
    serve.shutdown()
    for agent in agents:
        ray.kill(agent)
