"""The browser that the tests drive."""

from stream_server.bench.chromium import Chromium

__all__ = ["Chromium"]
