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
        command = "nerf-lipsync evaluate lips --grid GRID --strangers OTHERS --steps " + str(steps)
        write_results(json, new_results(figures, command=command, data="GRID s1 val (42 clips), GRID others (7 clips)"))


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    parent.add_typer(app, name="evaluate")
