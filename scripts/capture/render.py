"""Renders frames in worker processes, each with its own Blender; finished frames are skipped."""

from __future__ import annotations

import importlib.util
import multiprocessing as mp
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from scripts.capture.errors import CaptureError, MissingBlenderError, RenderError
from scripts.capture.head import HeadRig, load_head
from scripts.capture.person import IDENTITY_WEIGHTS
from scripts.capture.plan import FramePlan
from scripts.capture.store import CaptureFolder

OnDone = Callable[[str, float], None]  # frame name, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob:
    """What workers need: paths, picture settings, and the frames still to render."""

    head: Path
    out: Path
    size_px: int
    samples: int
    seed: int
    names: tuple[str, ...]
    frames: tuple[FramePlan, ...]


def require_blender() -> None:
    """Fail early and clearly.

    Raises:
        MissingBlenderError: `bpy` or scikit-image is not installed for this Python.
    """
    missing = [name for name in ("bpy", "skimage") if importlib.util.find_spec(name) is None]
    if missing:
        python = f"Python {sys.version_info.major}.{sys.version_info.minor} at {sys.prefix}"
        raise MissingBlenderError(f"no {' and no '.join(missing)} in {python}")


def render_frames(job: RenderJob, workers: int, on_done: OnDone) -> None:
    """Render all frames of a job; `on_done` runs in this process after each.

    Raises:
        MissingBlenderError: There is no `bpy`.
        RenderError: A worker failed; what is finished stays, and the same call continues.
    """
    require_blender()
    context = mp.get_context("spawn")
    running: dict[Connection, mp.process.BaseProcess] = {}
    try:
        for number in range(min(workers, len(job.frames))):
            receiver, sender = context.Pipe(duplex=False)
            share = job.frames[number::workers]
            process: mp.process.BaseProcess = context.Process(
                target=_work, args=(job, share, number, sender), daemon=True
            )
            process.start()
            sender.close()
            running[receiver] = process
        _collect(running, on_done)
    finally:
        for left in running.values():
            left.terminate()
            left.join()


def _collect(running: dict[Connection, mp.process.BaseProcess], on_done: OnDone) -> None:
    while running:
        for ready in wait(list(running)):
            assert isinstance(ready, Connection)
            try:
                message = ready.recv()
            except EOFError:
                process = running.pop(ready)
                process.join()
                if process.exitcode:
                    raise RenderError(
                        f"a render process ended with code {process.exitcode}; see .render/*.log"
                    ) from None
                continue
            if isinstance(message, str):
                raise RenderError(message)
            on_done(*message)


def _work(job: RenderJob, frames: Sequence[FramePlan], number: int, sender: Connection) -> None:
    """A worker process: sends (name, seconds) after each frame, or one line about what failed."""
    folder = CaptureFolder(job.out)
    work = folder.work / f"worker_{number}"
    work.mkdir(parents=True, exist_ok=True)
    _redirect_output(folder.work / f"worker_{number}.log")
    with suppress(BrokenPipeError):
        try:
            _render_share(job, frames, folder, work, sender)
        except CaptureError as error:
            sender.send(str(error))
        except ImportError as error:
            traceback.print_exc()
            sender.send(str(MissingBlenderError(str(error))))
        except Exception as error:
            traceback.print_exc()
            sender.send(f"rendering failed: {error!r}; see {folder.work}/worker_{number}.log")


def _render_share(
    job: RenderJob, frames: Sequence[FramePlan], folder: CaptureFolder, work: Path, sender: Connection
) -> None:
    from scripts.capture.scene import Stage  # imports bpy

    rig = HeadRig(load_head(job.head), IDENTITY_WEIGHTS)
    stage = Stage(rig, size_px=job.size_px, samples=job.samples, seed=job.seed, folder=work)
    for frame in frames:
        folder.require_space()
        begun = time.monotonic()
        picture, mask = stage.render(frame, job.names)
        folder.store(frame, picture, mask)
        sender.send((frame.name, time.monotonic() - begun))


def _redirect_output(log: Path) -> None:
    """Blender reports every sample on the standard output: into a file with it."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
