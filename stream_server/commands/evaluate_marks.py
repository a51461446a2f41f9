"""`nerf-lipsync evaluate marks`: is the invisible mark found after codecs, resizing and cropping, and only there?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def marks(
    speech: Annotated[Path, typer.Option(help="folder of recorded speech, such as LibriSpeech")],
    video: Annotated[Path, typer.Option(help="folder of filmed video without a mark, such as GRID's `val`")],
    avatar: Annotated[Path | None, typer.Option(help="avatar folder; the shipped one if not given")] = None,
    clips: Annotated[int, typer.Option(min=8, help="one-second clips to render and mark")] = 200,
    keys: Annotated[int, typer.Option(min=1, help="wrong keys that every unmarked window is searched for")] = 100,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Detection after every attack, bits, PSNR, cost, and the false alarms of unmarked video."""
    import torch

    from model.evaluation.marks import MarksEvaluation, evaluate_marks
    from model.results import new_results, write_results

    torch.set_num_threads(1)
    config = MarksEvaluation(speech=speech, video=video, avatar=avatar, clips=clips, keys=keys)
    figures = evaluate_marks(config, lambda part: typer.echo(f"... {part}", err=True))
    for name, figure in figures.items():
        value = f"{figure.value:10.4f}" if abs(figure.value) >= 1e-3 or not figure.value else f"{figure.value:10.1e}"
        typer.echo(f"{name:52s} {value} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        command = f"nerf-lipsync evaluate marks --speech LIBRISPEECH --video GRID --clips {clips} --keys {keys}"
        filmed = f"{video.parent.name} {video.name}"
        data = f"{clips} clips of 1 s rendered at 256 px from recorded speech; filmed video: {filmed}"
        if avatar is not None:
            command += " --avatar AVATAR"
        write_results(json, new_results(figures, command=command, data=data))


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command()(marks)
