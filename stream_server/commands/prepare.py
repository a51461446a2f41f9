"""`nerf-lipsync prepare`: one subcommand each, importing what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_server.commands import train_avatar

app = typer.Typer(no_args_is_help=True)


@app.callback()
def prepare() -> None:
    """Turn a data set into features; resumable."""


@app.command()
def grid(
    source: Annotated[Path, typer.Argument(help="folder of clips (.mp4 or .mpg) with .align files beside them")],
    out: Annotated[Path, typer.Option(help="folder for one npz per clip")],
    face_landmarker: Annotated[
        Path, typer.Option(envvar="NERF_LIPSYNC_FACE_LANDMARKER", help="MediaPipe face_landmarker.task")
    ],
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Track faces and read sound and words of GRID clips; clips already done are kept."""
    from model.data.grid import prepare_folder

    left_out = prepare_folder(source, out, face_landmarker, workers=workers)
    for reason in left_out:
        typer.echo(f"left out: {reason}", err=True)
    typer.echo(f"{out}: {len(list(out.glob('*.npz')))} clips prepared, {len(left_out)} left out")


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    train_avatar.register_prepare(app)
    parent.add_typer(app, name="prepare")
