"""`nerf-lipsync evaluate sync | syncnet`: our self-trained AV-sync critic, and the real SyncNet on video files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from model.results import Results


def sync(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    strangers: Annotated[Path | None, typer.Option(help="prepared clips of other speakers")] = None,
    critic: Annotated[Path | None, typer.Option(help="critic weights; the shipped ones if not given")] = None,
    served: Annotated[bool, typer.Option(help="also the motion that is served for the clips' sound")] = True,
    steps: Annotated[int, typer.Option(min=1, max=50, help="sampler steps of that motion")] = 2,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Shifts that the self-trained AV-sync critic (not SyncNet) finds; its scores of truth, controls, our motion."""
    import torch

    from model.data.preparing import read_manifest
    from model.evaluation.sync import SyncEvaluation, evaluate_sync, sync_results
    from model.motion.sync_critic import ASSET

    torch.set_num_threads(1)
    tables = evaluate_sync(
        SyncEvaluation(grid=grid, strangers=strangers, critic=critic or ASSET, served=served, steps=steps)
    )
    command, data = "nerf-lipsync evaluate sync --grid GRID", f"GRID s1 val ({read_manifest(grid / 'val').used} clips)"
    if strangers is not None:
        command += " --strangers OTHERS"
        data += f", other speakers ({read_manifest(strangers).used} clips)"
    if critic is not None:
        command += " --critic CRITIC"
    command += f" --steps {steps}" if served else " --no-served"
    results = sync_results(tables, command=command, data=data)
    _report(results, json)


def syncnet(
    video: Annotated[list[Path], typer.Option(help="video file with sound; give it again for each further one")],
    weights: Annotated[Path, typer.Option(help="syncnet_v2.model of joonson/syncnet_python; it is not shipped")],
    crop: Annotated[
        Literal["face", "whole"], typer.Option(help="face: cut around it; whole: the file is a face crop already")
    ] = "face",
    face_landmarker: Annotated[
        Path | None,
        typer.Option(
            envvar="NERF_LIPSYNC_FACE_LANDMARKER",
            help="MediaPipe face_landmarker.task; without it the cached or fetched one",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """Sync-C, Sync-D and offset of video files by the real SyncNet, by its own protocol."""
    import torch

    from model.evaluation.report import evaluation_results
    from model.evaluation.syncnet_video import syncnet_table

    torch.set_num_threads(1)
    task_file = _face_landmarker(face_landmarker) if crop == "face" else None
    table = syncnet_table(video, weights, crop=crop, face_landmarker=task_file)
    for index, clip in enumerate(table.table.clips):
        cells = (f"{name} {values[index]:8.3f}" for name, values in table.table.values["video"].items())
        typer.echo(f"{clip:32s} {'  '.join(cells)}")
    command = f"nerf-lipsync evaluate syncnet --video VIDEO --weights syncnet_v2.model --crop {crop}"
    _report(evaluation_results("SyncNet", [table], command=command, data=f"{len(video)} videos"), json)


def _face_landmarker(given: Path | None) -> Path:
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file

    return find_model_file(FACE_LANDMARKER, given, cache=default_cache(os.environ, Path.home()), download=True)


def _report(results: Results, json: Path | None) -> None:
    from model.results import write_results

    for name, figure in results.figures.items():
        typer.echo(f"{name:64s} {figure.value:8.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        write_results(json, results)


def register(group: typer.Typer) -> None:
    """Add the commands to the `evaluate` group."""
    group.command("sync")(sync)
    group.command("syncnet")(syncnet)
