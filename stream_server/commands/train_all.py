"""`nerf-lipsync train all`: from GRID's videos to the weights that are served, resumably."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from stream_server.commands.prepare import TELEMETRY
from stream_server.commands.progress import LINE_EVERY_S


def train_all(
    data: Annotated[Path, typer.Option(help="GRID: folders `train` and `val` of videos with .align files")],
    out: Annotated[Path, typer.Option(help="folder for the weights")],
    preset: Annotated[str, typer.Option(help="lite, ablation, paper or smoke")] = "lite",
    config: Annotated[Path | None, typer.Option(help="TOML with a table for each stage, in place of a preset")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="folder for prepared data, curves and resumable state; OUT/runs if not given")
    ] = None,
    face_landmarker: Annotated[
        Path | None,
        typer.Option(
            envvar="NERF_LIPSYNC_FACE_LANDMARKER",
            help="MediaPipe face_landmarker.task; without it the cached or fetched one",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="clips, or parts of the voice corpus, at a time")] = 2,
    offline: Annotated[bool, typer.Option(help="download nothing")] = False,
) -> None:
    """Prepare GRID and voices and train every speech-to-motion model; run it again to go on where it was cut off.

    A stage whose inputs have not changed since its output was made is passed over.
    """
    import torch

    from model.config import load_toml
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file
    from model.training.all_stages import TrainAll
    from model.training.presets import TrainAllConfig, load_preset
    from model.training.stage_runner import run_stages

    torch.set_num_threads(threads)
    _say(TELEMETRY)
    tick = _now_and_then(_say)
    cache = default_cache(os.environ, Path.home())
    everything = TrainAll(
        data=data,
        out=out,
        runs=runs or out / "runs",
        config=load_toml(TrainAllConfig, config) if config else load_preset(preset),
        face_landmarker=find_model_file(FACE_LANDMARKER, face_landmarker, cache=cache, download=not offline),
        workers=workers,
        tick=tick,
    )
    with _told(tick):
        records = run_stages(everything.stages(), everything.runs, _say)
    typer.echo(f"{out}: {len(records.stages)} stages, {sum(r.wall_s for r in records.stages.values()) / 60:.0f} min")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say`, but at most a line every half minute."""
    last_s = time.monotonic()

    def tick(line: str) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= LINE_EVERY_S:
            last_s = time.monotonic()
            say(line)

    return tick


class _Teller(logging.Handler):
    """Hands each message on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on."""
        self._tell(record.getMessage())


@contextmanager
def _told(tick: Callable[[str], None]) -> Iterator[None]:
    """Have the lines of the trainings' curves told."""
    logger, teller = logging.getLogger("model.training.run"), _Teller(tick)
    logger.setLevel(logging.INFO)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)


def register(group: typer.Typer) -> None:
    """Add the command to the `train` group."""
    group.command("all")(train_all)
