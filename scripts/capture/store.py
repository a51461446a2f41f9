"""The capture folder while it is being rendered: what is finished, what it was begun with, and safe writing.

A frame is finished when its mask and its picture lie in place; the picture goes last. Both are written beside their
place and renamed, so that an interruption leaves nothing half-written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from scripts.capture.errors import RenderError
from scripts.capture.person import IDENTITY_WEIGHTS
from scripts.capture.plan import TRAIN, FramePlan, Plan

WORK: Final = ".render"  # logs, times and the settings of the run; training ignores it
LABEL_STEP: Final = 40  # grey levels of one label in Blender's mask file
LABELS: Final = 4
SPACE_NEEDED: Final = 64 * 2**20
TRAIN_QUALITY: Final = 99  # WebP; the other splits are lossless


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What must stay the same in a folder from its first frame on."""

    size_px: int
    samples: int
    seed: int  # of the sampler: another one gives other noise
    plan: str  # hash

    @classmethod
    def of(cls, plan: Plan, size_px: int, samples: int, seed: int = 0) -> RunSettings:
        """Settings for a plan of the shipped person."""
        content = repr((plan.coefficient_names, [(f.name, f.coefficients, f.head_rotvec) for f in plan.frames]))
        digest = hashlib.sha256(repr(IDENTITY_WEIGHTS).encode() + content.encode()).hexdigest()[:16]
        return cls(size_px=size_px, samples=samples, seed=seed, plan=digest)


class CaptureFolder:
    """A folder that takes finished frames."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / WORK

    def begin(self, settings: RunSettings) -> None:
        """Make the folder, or continue in it.

        Raises:
            RenderError: It was begun with other settings, or holds something else, or cannot be written.
        """
        file = self.work / "settings.json"
        try:
            if file.is_file():
                self._compare(json.loads(file.read_text()), asdict(settings))
                return
            if self.root.is_dir() and any(self.root.iterdir()):
                raise RenderError(f"{self.root} is not empty and not a capture of this script: give another --out")
            self.work.mkdir(parents=True)
            write_whole(file, lambda partial: partial.write_text(json.dumps(asdict(settings), indent=2) + "\n"))
        except OSError as error:
            raise RenderError(f"cannot write to {self.root}: {error.strerror or error}") from error
        except json.JSONDecodeError as error:
            raise RenderError(f"{file} is damaged ({error}): give another --out") from error

    def picture(self, frame: FramePlan) -> Path:
        """Where the frame's picture lies."""
        return self.root / f"{frame.name}.webp"

    def mask(self, frame: FramePlan) -> Path:
        """Where the frame's label image lies."""
        return self.root / "mask" / f"{frame.name}.png"

    def has(self, frame: FramePlan) -> bool:
        """Whether the frame is finished."""
        return self.picture(frame).is_file() and self.mask(frame).is_file()

    def require_space(self) -> None:
        """Refuse to begin a frame that may not fit.

        Raises:
            RenderError: The disk is nearly full.
        """
        free = shutil.disk_usage(self.root).free
        if free < SPACE_NEEDED:
            raise RenderError(
                f"disk full: {free / 2**20:.0f} MiB free at {self.root}, {SPACE_NEEDED / 2**20:.0f} MiB wanted; "
                "make room and run the same command again, it continues"
            )

    def store(self, frame: FramePlan, picture: Path, mask: Path) -> None:
        """Take over Blender's picture and mask (labels times LABEL_STEP) of a frame.

        Raises:
            RenderError: One is damaged, or the disk is full.
        """
        try:
            with Image.open(mask) as opened:
                grey = np.array(opened.convert("L"))
            if grey.max() > LABEL_STEP * (LABELS - 1) or (grey % LABEL_STEP).any():
                raise RenderError(f"{frame.name}: the mask holds grey levels {np.unique(grey)[:9]}, not labels")
            labels = Image.fromarray((grey // LABEL_STEP).astype(np.uint8))
            write_whole(self.mask(frame), lambda partial: labels.save(partial, format="PNG", optimize=True))
            with Image.open(picture) as opened:
                colors = opened.convert("RGBA")
            write_whole(self.picture(frame), lambda partial: _save_webp(colors, partial, frame.split == TRAIN))
        except OSError as error:
            full = "disk full: " if error.errno == errno.ENOSPC else ""
            raise RenderError(f"{full}cannot store {frame.name} in {self.root}: {error}") from error

    def _compare(self, begun: dict[str, object], now: dict[str, object]) -> None:
        other = [f"{k} {begun.get(k)!r}, now {now[k]!r}" for k in now if begun.get(k) != now[k]]
        if other:
            raise RenderError(f"{self.root} was begun with {'; '.join(other)}: give the same, or another --out")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _save_webp(picture: Image.Image, path: Path, lossy: bool) -> None:
    """Alpha is exact either way; colors under alpha 0 are kept in lossless files."""
    if lossy:
        picture.save(path, format="WEBP", quality=TRAIN_QUALITY, alpha_quality=100, method=4)
    else:
        picture.save(path, format="WEBP", lossless=True, quality=60, method=4, exact=True)
