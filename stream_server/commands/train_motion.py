"""`nerf-lipsync train speech | motion-vae | coarticulation | ...`: the speech-to-motion models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_server.commands.encoder import Whisper, whisper_file

Grid = Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")]
Corpus = Annotated[Path, typer.Option(help="corpus made by `prepare voices`")]
Out = Annotated[Path, typer.Option(help="folder for the weights")]
Config = Annotated[Path | None, typer.Option(help="TOML; the `lite` preset if not given")]
Runs = Annotated[Path, typer.Option(help="folder for curves and resumable state")]
Threads = Annotated[int, typer.Option(min=1, help="torch threads")]


def speech(
    grid: Grid,
    corpus: Corpus,
    out: Out,
    config: Config = None,
    runs: Runs = Path("runs/speech"),
    threads: Threads = 1,
    whisper: Whisper = None,
) -> None:
    """Train the speech encoder on a corpus of voices and the filmed speaker's motion."""
    from model.config import load_toml
    from model.training.speech import SpeechTrainConfig, train_speech

    _set_threads(threads)
    settings = load_toml(SpeechTrainConfig, config) if config else SpeechTrainConfig()
    frozen = whisper_file(whisper)
    typer.echo(train_speech(grid, corpus, out / "speech.safetensors", settings, runs, whisper=frozen))


def motion_vae(
    grid: Grid, out: Out, config: Config = None, runs: Runs = Path("runs/motion_vae"), threads: Threads = 1
) -> None:
    """Train the motion VAE."""
    from model.config import load_toml
    from model.training.motion_vae import VaeTrainConfig, train_vae

    _set_threads(threads)
    settings = load_toml(VaeTrainConfig, config) if config else VaeTrainConfig()
    typer.echo(train_vae(grid, out / "motion_vae.safetensors", settings, runs))


def coarticulation(
    grid: Grid,
    out: Out,
    config: Config = None,
    runs: Runs = Path("runs/coarticulation"),
    threads: Threads = 1,
) -> None:
    """Train the network that makes the filmed speaker's motion from phone times, for speech that nobody filmed."""
    from model.config import load_toml
    from model.evaluation.coarticulation import coarticulation_figures
    from model.training.coarticulation import CoarticulationTrainConfig, train_coarticulation

    _set_threads(threads)
    settings = load_toml(CoarticulationTrainConfig, config) if config else CoarticulationTrainConfig()
    weights = out / "coarticulation.safetensors"
    typer.echo(train_coarticulation(grid, weights, settings, runs, figures=coarticulation_figures))


def motion_space(
    grid: Grid,
    ict: Annotated[Path, typer.Option(help="ICT-FaceKit arrays (npz)")],
    capture: Annotated[Path, typer.Option(help="rendered capture folder")],
    face_landmarker: Annotated[Path, typer.Option(help="MediaPipe face_landmarker.task")],
    out: Annotated[Path, typer.Option(help="file to write; every avatar and model must then be remade")],
) -> None:
    """Build the motion space anew. It is frozen: do this only to start a new one."""
    from model.training.ict_correspondence import capture_correspondence
    from model.training.motion_space import build_motion_space

    vertices = capture_correspondence(ict, capture, face_landmarker)
    typer.echo(build_motion_space(ict, capture, grid / "train", vertices, out))


def face_analysis(
    ict: Annotated[Path, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")],
    capture: Annotated[Path, typer.Option(help="rendered capture folder")],
    face_landmarker: Annotated[Path, typer.Option(help="MediaPipe face_landmarker.task")],
    out: Annotated[Path, typer.Option(help="file to write")],
) -> None:
    """Measure the face tracker's pose bias on a capture, and write it beside the mean face and its expressions."""
    from model.training.face_analysis import build_face_analysis

    typer.echo(build_face_analysis(ict, capture, face_landmarker, out))


def retarget(
    grid: Grid,
    ict: Annotated[Path, typer.Option(help="ICT-FaceKit arrays (npz)")],
    capture: Annotated[Path, typer.Option(help="rendered capture whose frames name GRID clips and times")],
    out: Annotated[Path, typer.Option(help="avatar folder")],
) -> None:
    """Fit the map from the speaker's motion to a captured face's, on moments that both share."""
    from model.motion.retarget import RETARGET_FILE, fit_retarget
    from model.motion.space import load_motion_space
    from model.training.capture_pairs import shared_moments

    speaker, face = shared_moments(grid, ict, capture)
    fit_retarget(speaker, face, load_motion_space(), out / RETARGET_FILE)
    typer.echo(f"{out / RETARGET_FILE}: {len(speaker)} pairs")


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def register(group: typer.Typer) -> None:
    """Add the commands to the `train` group."""
    group.command("speech")(speech)
    group.command("motion-vae")(motion_vae)
    group.command("coarticulation")(coarticulation)
    group.command("motion-space")(motion_space)
    group.command("face-analysis")(face_analysis)
    group.command("retarget")(retarget)
