"""`nerf-lipsync train view-bias`: how motion appears when the head is turned, learned from a rendered capture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view_bias(
    capture: Annotated[Path, typer.Option(help="rendered capture folder")],
    ict: Annotated[Path, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")],
    face_landmarker: Annotated[Path, typer.Option(help="MediaPipe face_landmarker.task")],
    out: Annotated[Path, typer.Option(help="file to write; motion models trained with head pose must then be remade")],
) -> None:
    """Learn what head pose adds to tracked motion, and print how far views of one expression are apart."""
    from model.training.view_bias import build_view_bias

    bias, figures = build_view_bias(capture, ict, face_landmarker, out)
    typer.echo(bias.hash)
    for name, figure in figures.items():
        typer.echo(f"{name}: {figure.value:.4f} {figure.unit}")


def register(group: typer.Typer) -> None:
    """Add the command to the `train` group."""
    group.command("view-bias")(view_bias)
