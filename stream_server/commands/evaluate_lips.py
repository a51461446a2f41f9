"""`nerf-lipsync evaluate lips`: the served mouth beside truth and every control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.evaluation.tables import MetricTable

DEFAULT_SAMPLES = 8
SHOWN = ("opening_r", "opening_lag", "opening_spread", "opening_crps", "closure_f1", "rounding_f1", "spreading_f1")
"""Columns that are printed; the results file has them all."""


def lips(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    json: Annotated[Path | None, typer.Option(help="results file to write, with every row and column")] = None,
    strangers: Annotated[Path | None, typer.Option(help="prepared clips of other speakers")] = None,
    steps: Annotated[int, typer.Option(min=1, max=50)] = 2,
    samples: Annotated[int, typer.Option(min=2, max=64, help="samples at temperature 1")] = DEFAULT_SAMPLES,
) -> None:
    """Lips of held-out speech against tracked video, beside truth and every control (needs pocketsphinx)."""
    import torch

    from model.data.preparing import read_manifest
    from model.evaluation.lip_evaluation import evaluate_lips, lip_results
    from model.results import write_results

    torch.set_num_threads(1)
    command = f"nerf-lipsync evaluate lips --grid GRID --steps {steps}"
    data = f"GRID s1 val ({read_manifest(grid / 'val').used} clips)"
    if strangers is not None:
        command += " --strangers OTHERS"
        data += f", other speakers ({read_manifest(strangers).used} clips)"
    if samples != DEFAULT_SAMPLES:
        command += f" --samples {samples}"
    evaluation = evaluate_lips(grid, steps=steps, strangers=strangers, samples=samples)
    for name, figure in evaluation.figures.items():
        typer.echo(f"{name:36s} {figure.value:8.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    for one in evaluation.sets:
        _print_table(one.table)
    if json is not None:
        write_results(json, lip_results(evaluation, command=command, data=data))


def _print_table(table: MetricTable) -> None:
    """Means over clips, a row for each method."""
    typer.echo(f"\n{table.title} ({len(table.clips)} clips)")
    typer.echo(" " * 26 + "".join(f"{name:>16s}" for name in SHOWN))
    for method in table.methods:
        cells = (table.estimate(method, name) for name in SHOWN)
        row = (f"{cell.mean:16.3f}" if cell is not None and cell.clips else " " * 15 + "-" for cell in cells)
        typer.echo(f"{method:26s}" + "".join(row))
    for note in table.notes:
        typer.echo(note)


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command("lips")(lips)
