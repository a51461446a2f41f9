"""`nerf-lipsync evaluate`: one subcommand each, importing what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def evaluate() -> None:
    """Measure trained models against recorded video."""


@app.command()
def lips(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    strangers: Annotated[Path | None, typer.Option(help="prepared clips of other speakers")] = None,
    steps: Annotated[int, typer.Option(min=1, max=50)] = 2,
) -> None:
    """Lip opening of held-out speech against tracked video, with energy and shuffled-phoneme controls."""
    import torch

    from model.evaluation.lips import evaluate_lips
    from model.results import new_results, write_results

    torch.set_num_threads(1)
    figures = evaluate_lips(grid, steps=steps, strangers=strangers)
    for name, figure in figures.items():
        typer.echo(f"{name:36s} {figure.value:8.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        command = f"nerf-lipsync evaluate lips --grid GRID --steps {steps}"
        data = f"GRID s1 val ({_clips(grid / 'val')} clips)"
        if strangers is not None:
            command += " --strangers OTHERS"
            data += f", other speakers ({_clips(strangers)} clips)"
        write_results(json, new_results(figures, command=command, data=data))


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


def _clips(folder: Path) -> int:
    return len(list(folder.glob("*.npz")))


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    parent.add_typer(app, name="evaluate")
