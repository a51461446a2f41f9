"""The synthetic voice that `nerf-lipsync bench` speaks with, for tests."""

from __future__ import annotations

from stream_server.bench.made_speech import made_speech

__all__ = ["made_speech"]
