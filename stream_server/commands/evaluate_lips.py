"""`nerf-lipsync evaluate lips | gate`: the served mouth beside truth and every control, and what its gate costs."""

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


def gate(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folder `val`, and `train` for the neutral face")],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    strangers: Annotated[Path | None, typer.Option(help="prepared clips of other speakers")] = None,
    sounds: Annotated[Path | None, typer.Option(help="folder with `keyboard` and `music`")] = None,
    samples: Annotated[int, typer.Option(min=2, max=64, help="samples at temperature 1")] = DEFAULT_SAMPLES,
) -> None:
    """The voice gate as served, without the breath before a sentence, and never shut: on speech and on noise."""
    import torch

    from model.data.preparing import read_manifest
    from model.evaluation.gate import evaluate_gate
    from model.results import new_results, write_results

    torch.set_num_threads(1)
    command = "nerf-lipsync evaluate gate --grid GRID"
    data = f"GRID s1 val ({read_manifest(grid / 'val').used} clips)"
    data += "" if (grid / "train").is_dir() else ", neutral face of its own"
    for option, word, path in (("strangers", "OTHERS", strangers), ("sounds", "SOUNDS", sounds)):
        command += f" --{option} {word}" if path is not None else ""
    command += f" --samples {samples}" if samples != DEFAULT_SAMPLES else ""
    figures = evaluate_gate(grid, strangers=strangers, sounds=sounds, samples=samples)
    for name, figure in figures.items():
        typer.echo(f"{name:48s} {figure.value:8.4f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        write_results(json, new_results(figures, command=command, data=data))


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
    """Add the commands to the `evaluate` group."""
    group.command("lips")(lips)
    group.command("gate")(gate)
