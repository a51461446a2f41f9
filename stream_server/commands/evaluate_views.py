"""`nerf-lipsync evaluate views`: an avatar's head turns, landmarks, closed lips and steadiness."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_server.commands.evaluate_reconstruction import spread_keys

if TYPE_CHECKING:
    from model.evaluation.views_clips import TurnedClips

DEFAULT_HOLD_OUT = 60


def views(
    avatar: Annotated[Path | None, typer.Option(help="avatar folder; the shipped one if not given")] = None,
    capture: Annotated[Path | None, typer.Option(help="rendered capture folder (with --ict)")] = None,
    ict: Annotated[Path | None, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")] = None,
    hold_out: Annotated[
        int, typer.Option(min=1, help="judge by the last so many frames of the capture's `train`")
    ] = DEFAULT_HOLD_OUT,
    clips: Annotated[
        Path | None, typer.Option(help="clips of the avatar's person, prepared with --pictures (with --made-from)")
    ] = None,
    made_from: Annotated[
        Path | None, typer.Option(help="with --clips: the prepared clips that the avatar was made from")
    ] = None,
    most_clips: Annotated[int | None, typer.Option(min=1, help="with --clips: only so many, spread evenly")] = None,
    frames: Annotated[int | None, typer.Option(min=10, help="with --clips: only the first so many of each")] = None,
    face_landmarker: Annotated[
        Path | None,
        typer.Option(
            envvar="NERF_LIPSYNC_FACE_LANDMARKER",
            help="MediaPipe face_landmarker.task; without it the cached or fetched one",
        ),
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="face embedder, ONNX: MobileFaceNet or ArcFace")] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    sheet: Annotated[Path | None, typer.Option(help="picture to write: truth, rendering, difference, turn")] = None,
    video: Annotated[Path | None, typer.Option(help="MP4 of the slow turn to write")] = None,
) -> None:
    """Head turns against rendered truth or the frontal view, an orbit, landmarks, mouths, and a slow turn."""
    import torch

    from model.evaluation.views import ViewsEvaluation, evaluate_views
    from model.evaluation.views_sheet import write_sheet, write_turn
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file
    from model.results import new_results, write_results

    if (clips is None) != (made_from is None):
        raise typer.BadParameter("--clips needs --made-from, and the other way round")
    if (capture is None) != (ict is None):
        raise typer.BadParameter("--capture needs --ict, and the other way round")
    torch.set_num_threads(1)
    task_file = find_model_file(
        FACE_LANDMARKER, face_landmarker, cache=default_cache(os.environ, Path.home()), download=True
    )
    turned = _clips(clips, made_from, task_file, most_clips, frames, identity)
    config = ViewsEvaluation(
        face_landmarker=task_file, avatar=avatar, capture=capture, ict=ict, hold_out=hold_out, clips=turned
    )
    found = evaluate_views(config, lambda part: typer.echo(f"... {part}", err=True))
    typer.echo(found.data)
    for name, figure in found.figures.items():
        typer.echo(f"{name:42s} {figure.value:9.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if sheet is not None:
        write_sheet(sheet, found)
    if video is not None:
        write_turn(video, found)
    if json is not None:
        options = {
            "--avatar AVATAR": avatar,
            "--capture CAPTURE --ict ICT": capture,
            f"--hold-out {hold_out}": capture if hold_out != DEFAULT_HOLD_OUT else None,
            "--clips CLIPS --made-from TRAINED": clips,
            f"--most-clips {most_clips}": most_clips,
            f"--frames {frames}": frames,
            "--identity ONNX": identity,
        }
        given = "".join(f" {text}" for text, value in options.items() if value is not None)
        write_results(json, new_results(found.figures, command=f"nerf-lipsync evaluate views{given}", data=found.data))


def _clips(
    clips: Path | None,
    made_from: Path | None,
    task_file: Path,
    most: int | None,
    frames: int | None,
    identity: Path | None,
) -> TurnedClips | None:
    from model.evaluation.views_clips import TurnedClips

    if clips is None or made_from is None:
        return None
    return TurnedClips(
        prepared=clips,
        made_from=made_from,
        face_landmarker=task_file,
        keys=spread_keys(clips, most),
        frames=frames,
        identity=identity,
    )


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command()(views)
