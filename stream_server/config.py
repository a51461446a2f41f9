"""Settings of one server, resolved before any process starts."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from stream_server.errors import ServerConfigError

__all__ = ["ServerConfig", "is_loopback"]

SIZES_PX = (128, 192, 256)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What `nerf-lipsync serve` was asked for.

    `models` is a folder of speech and motion weights (None: the shipped ones), `whisper` the path of the checkpoint
    that they were trained on, if on one. `pipeline` is for tests only: "module:attribute" of a class with the
    interface of `model.pipeline.AvatarPipeline`. None, the default, means the trained avatar.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    avatar: str | None = None
    models: str | None = None
    whisper: str | None = None
    size: int = 256
    steps: int = 2
    threads: int = 1
    temperature: float = 0.0
    backend: str = "auto"
    timecode: bool = False
    token: str | None = dataclasses.field(default=None, repr=False)
    max_sessions: int = 1
    video_bitrate_bps: int = 700_000
    pipeline: str | None = None
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ServerConfigError(f"port must be within 0..65535, got {self.port}")
        if self.size not in SIZES_PX:
            raise ServerConfigError(f"size must be one of {SIZES_PX}, got {self.size}")
        if not 1 <= self.steps <= 64:
            raise ServerConfigError(f"steps must be within 1..64, got {self.steps}")
        if self.max_sessions < 1:
            raise ServerConfigError(f"max_sessions must be at least 1, got {self.max_sessions}")
        if self.log_level not in LOG_LEVELS:
            raise ServerConfigError(f"log_level must be one of {LOG_LEVELS}, got {self.log_level!r}")
        if self.token is not None and len(self.token) < 8:
            raise ServerConfigError(f"a token needs at least 8 characters, got {len(self.token)}")
        if not is_loopback(self.host) and self.token is None:
            raise ServerConfigError(
                f"refusing to listen on {self.host} without --token: anyone on the network could use this server"
            )

    def to_json(self) -> str:
        """One JSON object; holds the token, so pass it by pipe and never by argument."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerConfig:
        """The inverse of `to_json`; unknown keys are errors."""
        values: Any = json.loads(text)
        if not isinstance(values, dict):
            raise ServerConfigError(f"expected a JSON object, got {type(values).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ServerConfigError(f"unknown settings: {', '.join(unknown)}")
        return cls(**values)
