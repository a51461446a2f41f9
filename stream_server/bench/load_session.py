"""One caller of a load measurement, in a process of its own: `python -m stream_server.bench.load_session`.

Lines of JSON. The first on standard input is `{"url", "token", "voice"}`, `voice` being a sound file. Answers: either
`{"refused": status, "retry_after_s"}` and the end, or `{"first_frame_s"}`. Then each `measure` is answered by
`{"frames_ns", "skipped"}`: when new frames came since the last such question. The end of the input hangs up.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from stream_server.bench.caller import Caller
from stream_server.bench.errors import BenchError, RefusedError
from stream_server.bench.voice import Microphone, read_voice

__all__ = ["new_frames"]


def new_frames(codes: list[int | None], arrived_ns: list[int], last_code: int) -> tuple[list[int], int, int]:
    """Moments of frames newer than all before, how many between them never came, and the newest code."""
    moments, skipped, newest = [], 0, last_code
    for code, moment in zip(codes, arrived_ns, strict=True):
        if code is None or code <= newest:
            continue
        skipped += code - newest - 1 if newest >= 0 else 0
        newest = code
        moments.append(moment)
    return moments, skipped, newest


async def _session(settings: dict[str, Any]) -> None:
    microphone = Microphone(read_voice(Path(settings["voice"])))
    async with Caller(settings["url"], microphone, token=settings["token"]) as caller:
        try:
            await caller.call()
            await caller.first_frame()
        except RefusedError as error:
            _say({"refused": error.status, "retry_after_s": error.retry_after_s})
            return
        assert caller.pictures is not None
        assert caller.sound is not None
        frames = caller.pictures.frames
        _say({"first_frame_s": (frames[0].arrived_ns - caller.offered_ns) / 1e9})
        newest = -1
        while (await asyncio.to_thread(sys.stdin.readline)).strip() == "measure":
            codes, moments = [frame.code for frame in frames], [frame.arrived_ns for frame in frames]
            fresh, skipped, newest = new_frames(codes, moments, newest)
            del frames[:-1], caller.sound.packets[:]
            _say({"frames_ns": fresh, "skipped": skipped, "ended": caller.ended})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point."""
    try:
        asyncio.run(_session(json.loads(sys.stdin.readline())))
    except BenchError as error:
        _say({"failed": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
