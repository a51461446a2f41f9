"""What `serve --cluster` was asked for beyond a single server's settings."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError

__all__ = ["ClusterSettings", "check_for_cluster"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Ray's address, and how many avatar workers (replicas) of what size.

    `target_share` of a replica's places taken makes Serve start another one, so that a place is free while it loads.
    `drain_s` is how long a replica that is no longer wanted waits for its calls to end.
    """

    address: str = "auto"
    min_replicas: int = 1
    max_replicas: int = 1
    replica_cpus: float = 1.0
    replica_gpus: float = 0.0
    target_share: float = 0.75
    upscale_delay_s: float = 5.0
    downscale_delay_s: float = 300.0
    look_back_s: float = 10.0
    drain_s: float = 8 * 3600.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ServerConfigError(
                f"need 1 <= min_replicas <= max_replicas, got {self.min_replicas} and {self.max_replicas}"
            )
        if self.replica_cpus < 0 or self.replica_gpus < 0 or self.replica_cpus + self.replica_gpus == 0:
            raise ServerConfigError(
                f"a replica needs CPUs or GPUs, got replica_cpus {self.replica_cpus} and replica_gpus "
                f"{self.replica_gpus}"
            )
        if not 0 < self.target_share <= 1:
            raise ServerConfigError(f"target_share must be within 0..1, got {self.target_share}")
        if min(self.upscale_delay_s, self.downscale_delay_s, self.drain_s) < 0 or self.look_back_s <= 0:
            raise ServerConfigError("delays must not be negative, and look_back_s must be positive")

    def target_sessions(self, places: int) -> float:
        """Sessions a replica is meant to have on average; never so few that one session asks for two replicas."""
        return max(1.0, self.target_share * places)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ClusterSettings:
        """The inverse of `to_json`; unknown keys are errors."""
        values: dict[str, Any] = json.loads(text)
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ServerConfigError(f"unknown settings: {', '.join(unknown)}")
        return cls(**values)


def check_for_cluster(config: ServerConfig) -> None:
    """Raises ServerConfigError for what a cluster does not have."""
    if config.max_sessions == 0:
        raise ServerConfigError(
            "--cluster needs --max-sessions: the places of one replica, by which Ray Serve places and scales "
            "(`nerf-lipsync bench load` measures them)"
        )
    if config.metrics_port:
        raise ServerConfigError("--metrics-port is not offered with --cluster; Ray's own metrics count calls a replica")
    if config.advertise_ip is not None:
        raise ServerConfigError(
            "--advertise-ip is one address, and a cluster has one a node: set NERF_LIPSYNC_ADVERTISE_IP where "
            "`ray start` runs"
        )
