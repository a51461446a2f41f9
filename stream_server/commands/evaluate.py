"""`nerf-lipsync evaluate`: one subcommand each, importing what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_server.commands import (
    evaluate_ab,
    evaluate_decoder2d,
    evaluate_identities,
    evaluate_lips,
    evaluate_marks,
    evaluate_motion,
    evaluate_reconstruction,
    evaluate_report,
    evaluate_sync,
    evaluate_table,
    evaluate_views,
)

if TYPE_CHECKING:
    from model.results import Figure

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Measure trained models against recorded video."""


@app.command("motion-space")
def motion_space(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    ict: Annotated[Path, typer.Option(help="ICT-FaceKit arrays (npz)")],
    capture: Annotated[Path, typer.Option(help="rendered capture folder")],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """What the frozen motion space keeps, and how well the retarget map fits."""
    from model.evaluation.motion_space import evaluate_motion_space
    from model.results import new_results, write_results

    figures = evaluate_motion_space(grid, ict, capture)
    for name, figure in figures.items():
        typer.echo(f"{name:36s} {figure.value:8.4f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        command = "nerf-lipsync evaluate motion-space --grid GRID --ict ICT --capture CAPTURE"
        data = f"GRID s1 train ({_clips(grid / 'train')} clips), ICT-FaceKit, rendered capture"
        write_results(json, new_results(figures, command=command, data=data))


@app.command()
def faces(
    video: Annotated[Path | None, typer.Option(help="folder written by `prepare`")] = None,
    capture: Annotated[
        Path | None, typer.Option(help="rendered capture folder (with --ict and --face-landmarker)")
    ] = None,
    ict: Annotated[Path | None, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")] = None,
    face_landmarker: Annotated[
        Path | None, typer.Option(envvar="NERF_LIPSYNC_FACE_LANDMARKER", help="MediaPipe face_landmarker.task")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """How well faces are read: against a capture's exact truth, or on prepared video."""
    import torch

    from model.evaluation.faces import evaluate_capture_faces
    from model.evaluation.faces_video import evaluate_video_faces

    torch.set_num_threads(1)
    if video is not None and capture is None:
        _report(
            evaluate_video_faces(video),
            json,
            "nerf-lipsync evaluate faces --video PREPARED",
            f"{_clips(video)} clips of {video.name}",
        )
    elif capture is not None and video is None and ict is not None and face_landmarker is not None:
        command = "nerf-lipsync evaluate faces --capture CAPTURE --ict ICT --face-landmarker TASK"
        _report(evaluate_capture_faces(ict, capture, face_landmarker), json, command, "rendered capture")
    else:
        raise typer.BadParameter("give --video FOLDER, or --capture with --ict and --face-landmarker")


@app.command("head-fit")
def head_fit(
    ict: Annotated[Path, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")],
    capture: Annotated[Path, typer.Option(help="rendered capture folder")],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Known parameters of a FLAME-layout head in, fitted ones out."""
    import torch

    from model.evaluation.head_fit import evaluate_head_fit

    torch.set_num_threads(1)
    command = "nerf-lipsync evaluate head-fit --ict ICT --capture CAPTURE"
    _report(evaluate_head_fit(ict, capture), json, command, "ICT-FaceKit head in FLAME layout, rendered capture")


@app.command()
def pictures(
    capture: Annotated[Path, typer.Option(help="rendered capture folder")],
    face_landmarker: Annotated[
        Path, typer.Option(envvar="NERF_LIPSYNC_FACE_LANDMARKER", help="MediaPipe face_landmarker.task")
    ],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Mattes and mouth flow against a capture's exact masks and motion."""
    from model.evaluation.pictures import evaluate_pictures

    command = "nerf-lipsync evaluate pictures --capture CAPTURE --face-landmarker TASK"
    _report(evaluate_pictures(capture, face_landmarker), json, command, "rendered capture, 40 frames of sequence")


@app.command()
def speech(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    strangers: Annotated[Path | None, typer.Option(help="prepared clips of other GRID speakers")] = None,
    talkers: Annotated[Path | None, typer.Option(help="LibriSpeech folder: voices of the babble")] = None,
    sounds: Annotated[
        Path | None, typer.Option(help="recorded sounds that are no speech: folders `keyboard` and `music`")
    ] = None,
    held_out_voices: Annotated[
        bool, typer.Option(help="also synthetic voices kept out of training (needs espeak-ng and festival)")
    ] = True,
    checkpoint: Annotated[
        Path | None, typer.Option(help="a speech checkpoint without motion of its own yet, instead of the shipped one")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Phonemes, mouth shapes and closures of voices never trained on; noise; motion; rest while nobody speaks."""
    import torch

    from model.evaluation.speech import SpeechEvaluation, evaluate_speech

    torch.set_num_threads(1)
    config = SpeechEvaluation(
        grid=grid,
        strangers=strangers,
        talkers=talkers,
        sounds=sounds,
        held_out_voices=held_out_voices,
        checkpoint=checkpoint,
    )
    command, data = "nerf-lipsync evaluate speech --grid GRID", f"GRID s1 val ({_clips(grid / 'val')} clips)"
    if strangers is not None:
        command, data = f"{command} --strangers OTHERS", f"{data}, other speakers ({_clips(strangers)} clips)"
    for path, option, words in (
        (talkers, "--talkers LIBRISPEECH", "LibriSpeech babble"),
        (sounds, "--sounds SOUNDS", "recorded keyboard and music"),
        (checkpoint, "--checkpoint SPEECH", ""),
    ):
        if path is not None:
            command, data = f"{command} {option}", f"{data}, {words}" if words else data
    if held_out_voices:
        data += ", held-out synthetic voices"
    else:
        command += " --no-held-out-voices"
    _report(evaluate_speech(config), json, command, data)


def _report(figures: dict[str, Figure], json: Path | None, command: str, data: str) -> None:
    from model.results import new_results, write_results

    for name, figure in figures.items():
        typer.echo(f"{name:44s} {figure.value:9.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        write_results(json, new_results(figures, command=command, data=data))


def _clips(folder: Path) -> int:
    from model.data.preparing import read_manifest

    return read_manifest(folder).used


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    evaluate_ab.register(app)
    evaluate_decoder2d.register(app)
    evaluate_identities.register(app)
    evaluate_lips.register(app)
    evaluate_marks.register(app)
    evaluate_motion.register(app)
    evaluate_reconstruction.register(app)
    evaluate_report.register(app)
    evaluate_sync.register(app)
    evaluate_table.register(app)
    evaluate_views.register(app)
    parent.add_typer(app, name="evaluate")
