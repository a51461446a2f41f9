"""Find the browser that the browser tests drive: a stock Chromium of the system."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Path of the first browser found; `NERF_LIPSYNC_CHROMIUM` comes first."""
    chosen = os.environ.get("NERF_LIPSYNC_CHROMIUM")
    return shutil.which(chosen) if chosen else next((p for name in NAMES if (p := shutil.which(name))), None)
