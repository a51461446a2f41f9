"""Find the browser that the browser tests drive: a stock Chromium of the system."""

from __future__ import annotations

import os

from stream_server.bench import chromium


def find_chromium() -> str | None:
    """Path of the first browser found; `NERF_LIPSYNC_CHROMIUM` comes first."""
    return chromium.find_chromium(os.environ.get("NERF_LIPSYNC_CHROMIUM"))
