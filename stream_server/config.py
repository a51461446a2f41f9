"""Settings of one server, resolved before any process starts."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from stream_server.errors import ServerConfigError
from stream_server.log_setup import LOG_FORMATS
from stream_server.voices.choice import VoiceSettings

__all__ = ["ServerConfig", "is_loopback"]

SIZES_PX = (128, 192, 256)
DEVICES = ("auto", "cpu", "cuda")
ENCODERS = (
    *("auto", "libvpx", "h264_nvenc", "h264_qsv", "h264_vaapi"),
    *("h264_videotoolbox", "libx264", "libopenh264"),
)
"""Names of `stream_server.media.video_encoder.KINDS`, which this process need not import."""
MOST_THREADS = 64
MOST_TEMPERATURE = 1.5
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
    """What `nerf-lipsync serve` was asked for. `max_sessions` 0: as many as this machine is measured to hold.

    `models` is a folder of speech and motion weights (None: the shipped ones), `whisper` the path of the checkpoint
    that they were trained on, if on one. `metrics_port` 0: no metrics. `step_ms` is what a hop is known to take (None:
    to be measured), `standby` keeps a second engine ready to take over.
    `device`: "cuda" runs the whole step on a GPU, "cpu" nothing, "auto" the speech encoder where there is one.
    `encoder` is what must encode pictures ("auto": the best that works). `virtual_camera`: one session's picture goes
    to the camera `camera_device` (None: any). `record` is the folder where every session is recorded. `pipeline` is
    for tests only: "module:attribute" of a class with the interface of `model.pipeline.AvatarPipeline`. None, the
    default, means the trained avatar. `cluster`: this is a front that reaches workers on all nodes through its node's
    agent; `session_prefix` is what ids of this worker's sessions begin with (see `stream_server.cluster.names`).
    """

    host: str = "127.0.0.1"
    port: int = 8080
    avatar: str | None = None
    avatars: str | None = None
    backgrounds: str | None = None
    avatar_memory_mb: int = 512
    models: str | None = None
    whisper: str | None = None
    size: int = 256
    exact_size: bool = False
    step_ms: float | None = None
    standby: bool = True
    steps: int = 2
    threads: int = 1
    temperature: float = 0.0
    low_latency: bool = False
    backend: str = "auto"
    instruction_set: str = "auto"
    device: str = "auto"
    timecode: bool = False
    visible_mark: bool = True
    mark_text: str = "AI"
    mark_instance: int | None = None
    mark_key: str | None = None
    revoked: str | None = None
    trusted_keys: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    max_sessions: int = 0
    workers: int = 1
    sessions_per_worker: int = 12
    udp_ports: tuple[int, int] | None = None
    advertise_ip: str | None = None
    video_bitrate_bps: int = 700_000
    encoder: str = "auto"
    virtual_camera: bool = False
    camera_device: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    turn_urls: tuple[str, ...] = ()
    turn_secret: str | None = dataclasses.field(default=None, repr=False)
    offers_per_minute: int = 60
    piper_model: str | None = None
    speech_url: str | None = None
    speech_model: str = "tts-1"
    speech_voice: str = "alloy"
    speech_key: str | None = dataclasses.field(default=None, repr=False)
    pipeline: str | None = None
    log_level: str = "INFO"
    log_format: str = "text"
    metrics_port: int = 0
    record: str | None = None
    record_quota_mb: int = 10_000
    connect_timeout_s: float = 15.0
    cluster: bool = False
    session_prefix: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ServerConfigError(f"port must be within 0..65535, got {self.port}")
        if self.size not in SIZES_PX:
            raise ServerConfigError(f"size must be one of {SIZES_PX}, got {self.size}")
        if not 1 <= self.steps <= 64:
            raise ServerConfigError(f"steps must be within 1..64, got {self.steps}")
        self._check_ranges()
        if self.device not in DEVICES:
            raise ServerConfigError(f"device must be one of {DEVICES}, got {self.device!r}")
        if self.max_sessions < 0:
            raise ServerConfigError(f"max_sessions must be at least 1, or 0 for what is held, got {self.max_sessions}")
        if not 1 <= self.workers <= 64:
            raise ServerConfigError(f"workers must be within 1..64, got {self.workers}")
        if self.encoder not in ENCODERS:
            raise ServerConfigError(f"encoder must be one of {', '.join(ENCODERS)}, got {self.encoder!r}")
        if self.camera_device is not None and not self.virtual_camera:
            raise ServerConfigError("--camera-device needs --virtual-camera")
        if self.virtual_camera and self.workers > 1:
            raise ServerConfigError(f"one session has the virtual camera: it needs --workers 1, got {self.workers}")
        self._check_network()
        if self.log_level not in LOG_LEVELS:
            raise ServerConfigError(f"log_level must be one of {LOG_LEVELS}, got {self.log_level!r}")
        if self.record_quota_mb < 0:
            raise ServerConfigError(
                f"record_quota_mb must be at least 1, or 0 for no limit, got {self.record_quota_mb}"
            )
        if self.connect_timeout_s <= 0:
            raise ServerConfigError(f"connect_timeout_s must be positive, got {self.connect_timeout_s}")
        if self.log_format not in LOG_FORMATS:
            raise ServerConfigError(f"log_format must be one of {LOG_FORMATS}, got {self.log_format!r}")
        self._check_token()

    def _check_token(self) -> None:
        if self.token is not None and len(self.token) < 8:
            raise ServerConfigError(f"a token needs at least 8 characters, got {len(self.token)}")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ServerConfigError("a token must be printable ASCII without line breaks: it is sent in a header")
        if self.token is not None and self.token != self.token.strip():
            raise ServerConfigError("a token may hold spaces, but none at its ends: headers lose them")
        if not is_loopback(self.host) and self.token is None:
            raise ServerConfigError(
                f"refusing to listen on {self.host} without --token: anyone on the network could use this server"
            )

    def _check_ranges(self) -> None:
        if not 1 <= self.threads <= MOST_THREADS:
            raise ServerConfigError(f"threads must be within 1..{MOST_THREADS}, got {self.threads}")
        if not 0 <= self.temperature <= MOST_TEMPERATURE:  # NaN neither
            raise ServerConfigError(f"temperature must be within 0..{MOST_TEMPERATURE}, got {self.temperature}")
        if self.avatar_memory_mb < 0:
            raise ServerConfigError(f"avatar_memory_mb must be at least 0, got {self.avatar_memory_mb}")
        if self.offers_per_minute < 1:
            raise ServerConfigError(f"offers_per_minute must be at least 1, got {self.offers_per_minute}")

    def _check_network(self) -> None:
        if not 0 <= self.metrics_port <= 65535:
            raise ServerConfigError(f"metrics_port must be within 1..65535, or 0 for none, got {self.metrics_port}")
        if self.metrics_port and self.metrics_port == self.port:
            raise ServerConfigError(f"metrics_port must be another port than port, got {self.port} for both")
        if self.udp_ports is not None:
            first, last = self.udp_ports
            if not 1024 <= first <= last <= 65535:
                raise ServerConfigError(f"udp_ports must be A-B within 1024..65535, got {first}-{last}")
            if last - first + 1 < 4 * self.workers:
                raise ServerConfigError(f"udp_ports {first}-{last} are too few: each worker needs at least 4")
        if self.advertise_ip is not None:
            try:
                ipaddress.ip_address(self.advertise_ip)
            except ValueError:
                raise ServerConfigError(f"advertise_ip must be an address, got {self.advertise_ip!r}") from None
        for url in self.turn_urls:
            if not url.startswith(("turn:", "turns:")):  # browsers refuse to begin a call with it
                raise ServerConfigError(f"a turn_url begins with turn: or turns:, got {url!r}")
        if self.speech_url is not None and not self.speech_url.startswith(("http://", "https://")):
            raise ServerConfigError(f"speech_url must begin with http:// or https://, got {self.speech_url!r}")
        if self.turn_urls and not self.turn_secret:
            raise ServerConfigError("turn_urls need the secret that the TURN server shares (NERF_LIPSYNC_TURN_SECRET)")

    def ports_of(self, worker: int) -> range | None:
        """The UDP ports of one worker: an equal part of the range."""
        if self.udp_ports is None:
            return None
        first, last = self.udp_ports
        each = (last - first + 1) // self.workers
        return range(first + worker * each, first + (worker + 1) * each)

    def voice_settings(self) -> VoiceSettings:
        """What speaks text."""
        return VoiceSettings(
            piper_model=self.piper_model,
            speech_url=self.speech_url,
            speech_model=self.speech_model,
            speech_voice=self.speech_voice,
            speech_key=self.speech_key,
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
        for name in ("udp_ports", "allowed_hosts", "turn_urls"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)
