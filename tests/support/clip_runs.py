"""Runs of `prepare` over toy clips. As a program (`python -m tests.support.clip_runs`) it is a run that tests kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.clip_types import ClipSource
from model.data.preparing import Manifest, prepare_clips
from tests.support.clip_analysis import ToySettings, analyse

VARYING = {"run.json", ".lock", "report.html"}


def toy_sources(count: int, texts: Mapping[int, str] | None = None) -> list[ClipSource]:
    """Clips `clip000` and on; the first word of a text says what becomes of the clip."""
    return [
        ClipSource(key=f"clip{i:03d}", video=Path(f"/data/clip{i:03d}.mp4"), text=(texts or {}).get(i, "good"))
        for i in range(count)
    ]


def prepare_toy(out: Path, sources: list[ClipSource], **options: Any) -> Manifest:
    """Prepare with small shards and the toy's analysis."""
    settings = options.pop("settings", ToySettings())
    defaults: dict[str, Any] = {"data_set": "toy", "workers": 1, "timeout_s": 60.0, "shard_clips": 5}
    return prepare_clips(sources, analyse, settings, out, **(defaults | options))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that must not depend on how the run went."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in VARYING
    }


def kill_at_rename(number: int, when: str) -> None:
    """Kill this process outright before or after its so-many-th rename: the moments at which a folder changes."""
    rename, seen = os.replace, 0

    def replace(old: Path, new: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(old, new)
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]


def main() -> None:
    """Options as JSON: out, count, texts, workers, clips_allowed, rename, when."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    options = json.loads(sys.argv[1])
    if "rename" in options:
        kill_at_rename(options["rename"], options["when"])
    allowed = options.get("clips_allowed")
    texts = {int(key): text for key, text in options["texts"].items()}
    prepare_toy(
        Path(options["out"]),
        toy_sources(options["count"], texts),
        workers=options.get("workers", 1),
        settings=ToySettings(clips_allowed=Path(allowed) if allowed else None),
    )


if __name__ == "__main__":
    main()
