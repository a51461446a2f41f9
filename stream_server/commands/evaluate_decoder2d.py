"""`nerf-lipsync evaluate decoder2d`: the field against a 2-D convolutional decoder of equal cost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from stream_server.commands.train_avatar import Capture, Ict, capture_folder, ict_file


def decoder2d(
    decoder: Annotated[Path, typer.Option(help="weights by `train decoder2d`")],
    capture: Capture = None,
    ict: Ict = None,
    avatar: Annotated[Path | None, typer.Option(help="whose field; the shipped avatar if not given")] = None,
    hold_out: Annotated[int, typer.Option(min=1, help="judge by the last so many frames of `train`")] = 60,
    face_landmarker: Annotated[
        Path | None,
        typer.Option(
            envvar="NERF_LIPSYNC_FACE_LANDMARKER",
            help="MediaPipe face_landmarker.task; without it the cached or fetched one",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    sheets: Annotated[Path | None, typer.Option(help="folder for a sheet and a film of the turn of both")] = None,
) -> None:
    """Held-out head turns, a slow turn and an orbit by the field and by a 2-D decoder, and what each costs."""
    import torch

    from model.evaluation.decoder2d import DecoderEvaluation, evaluate_decoder, write_sheets
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file
    from model.results import new_results, write_results

    torch.set_num_threads(1)
    task_file = find_model_file(
        FACE_LANDMARKER, face_landmarker, cache=default_cache(os.environ, Path.home()), download=True
    )
    config = DecoderEvaluation(
        decoder=decoder,
        capture=capture_folder(capture),
        ict=ict_file(ict),
        face_landmarker=task_file,
        avatar=avatar,
        hold_out=hold_out,
    )
    found = evaluate_decoder(config, lambda part: typer.echo(f"... {part}", err=True))
    typer.echo(found.data)
    for name, figure in found.figures.items():
        typer.echo(f"{name:46s} {figure.value:9.3f} {figure.unit}")
    if sheets is not None:
        write_sheets(sheets, found)
    if json is not None:
        command = "nerf-lipsync evaluate decoder2d --decoder DECODER"
        command += " --avatar AVATAR" if avatar is not None else ""
        write_results(json, new_results(found.figures, command=command, data=found.data))


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command()(decoder2d)
