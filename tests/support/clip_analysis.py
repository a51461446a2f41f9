"""A tiny analysis of clips for the tests of `prepare`. Worker processes import it by name, so it lies in a module."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from model.data.clip_types import ClipOutcome, ClipSource, Problem, Sample

THUMBNAIL = bytes.fromhex(  # a grey JPEG of 1 x 1 pixel
    "ffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c1912130f141d1a1f1e1d"
    "1a1c1c20242e2720222c231c1c2837292c30313434341f27393d38323c2e333432ffc0000b080001000101011100ffc4001f000001050101"
    "0101010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d010203000411051221314106"
    "13516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a535455"
    "565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9ba"
    "c2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbd0ffd9"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySettings:
    """Settings of the toy."""

    scale: float = 2.0
    model_file: Path = Path("/somewhere/model.task")
    clips_allowed: Path | None = None  # a folder: `patient` waits for a file named as the clip in it


def analyse(source: ClipSource, settings: ToySettings) -> ClipOutcome:
    """What becomes of the clip is told by the first word of its text."""
    kind = source.text.split()[0] if source.text else "good"
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "hang":
        threading.Event().wait()
    if kind == "raise":
        raise ZeroDivisionError(f"no luck with {object()}")
    if kind == "wrong":
        return ClipOutcome(key=source.key)
    if kind == "patient" and settings.clips_allowed is not None:
        _wait_for(settings.clips_allowed / source.key)
    if kind == "kill-parent":
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait()
    if kind == "refuse":
        return ClipOutcome(
            key=source.key,
            problem=Problem.TWO_FACES,
            message=f"{source.video.name}: two faces in 12 of 75 frames: crop the video to one",
            row={"frames": 75},
            thumbnail=THUMBNAIL,
        )
    number = sum(source.key.encode())
    keys = [f"{source.key}-0", f"{source.key}-1"] if kind == "split" else [source.key]
    parts = {"meta.json": b"{}", "features.safetensors": f"{number * settings.scale}".encode() * 100}
    return ClipOutcome(
        key=source.key,
        samples=tuple(Sample(key=key, parts=parts) for key in keys),
        notes=(f"turned upright ({90 * (number % 4)} degrees)",) if number % 2 else (),
        row={"frames": number, "yaw_deg": number % 50 - 25.0},
        thumbnail=THUMBNAIL,
    )


def _wait_for(path: Path) -> None:
    """Blocks in the kernel until a writer opens the FIFO."""
    with path.open("rb"):
        pass
