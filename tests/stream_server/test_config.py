"""Settings: what is refused, and the way through a pipe."""

from __future__ import annotations

import pytest

from stream_server.config import ServerConfig, is_loopback
from stream_server.errors import ServerConfigError


def test_there_and_back() -> None:
    config = ServerConfig(host="0.0.0.0", token="correct horse", size=192, timecode=True)
    assert ServerConfig.from_json(config.to_json()) == config


def test_the_token_is_not_shown() -> None:
    assert "correct" not in repr(ServerConfig(token="correct horse"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "0.0.0.0"}, "without --token"),
        ({"host": "example.org"}, "without --token"),
        ({"port": 70_000}, "got 70000"),
        ({"size": 100}, "got 100"),
        ({"token": "short"}, "got 5"),
        ({"token": "with a newline\n"}, "printable ASCII"),
        ({"token": " secret12"}, "none at its ends"),
        ({"token": "gr\u00fc\u00dfe-an-alle"}, "printable ASCII"),
        ({"max_sessions": -1}, "got -1"),
        ({"workers": 0}, "got 0"),
        ({"udp_ports": (50_000, 50_002)}, "too few"),
        ({"udp_ports": (80, 90)}, "1024"),
        ({"advertise_ip": "my-host"}, "my-host"),
        ({"turn_urls": ("turn:t",)}, "secret"),
        ({"turn_urls": ("t.example",), "turn_secret": "s"}, "begins with turn:"),
        ({"speech_url": "localhost:8000"}, "http://"),
        ({"steps": 0}, "got 0"),
        ({"threads": 0}, "got 0"),
        ({"threads": 999}, "got 999"),
        ({"temperature": -1.0}, "got -1.0"),
        ({"temperature": float("nan")}, "got nan"),
        ({"avatar_memory_mb": -1}, "got -1"),
        ({"offers_per_minute": 0}, "got 0"),
        ({"log_level": "LOUD"}, "'LOUD'"),
    ],
)
def test_the_impossible_is_refused_by_name(values: dict[str, object], words: str) -> None:
    with pytest.raises(ServerConfigError, match=words):
        ServerConfig(**values)  # type: ignore[arg-type]


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(ServerConfigError, match="colour"):
        ServerConfig.from_json('{"colour": "blue"}')


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("::", False)]
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
