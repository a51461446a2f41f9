"""`nerf-lipsync results`: every results file as one table, misses marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from model.results import Figure, Results

DEFAULT_FOLDER = Path("benchmarks/results")


def results(
    folder: Annotated[Path, typer.Argument(help="folder of results files")] = DEFAULT_FOLDER,
    check: Annotated[bool, typer.Option("--check", help="exit with 1 if any figure misses its goal")] = False,
) -> None:
    """Print all results as one table; a figure that misses its goal is marked MISS."""
    from rich.console import Console

    from model.errors import ResultsError
    from model.results import read_results

    if not folder.is_dir():
        raise ResultsError(f"no such folder of results: {folder}")
    files = sorted(folder.glob("*.json"))
    console = Console(width=None if Console().is_terminal else 160)
    if not files:
        console.print(f"no results in {folder}")
        return
    read = {file.stem: read_results(file) for file in files}
    console.print(results_table(read))
    missed = sum(len(one.missed) for one in read.values())
    total = sum(len(one.figures) for one in read.values())
    console.print(f"{total} figures in {len(files)} files, {missed} missed", highlight=False)
    if check and missed:
        raise typer.Exit(1)


def results_table(read: dict[str, Results]) -> Table:
    """The table of several files, by name."""
    from rich.table import Table

    table = Table()
    for title in ("file", "figure", "value", "goal", "", "hardware", "commit", "date"):
        table.add_column(title, justify="right" if title in ("value", "goal") else "left")
    for name, one in read.items():
        hardware = f"{one.hardware.get('cpu', '?')} x {one.hardware.get('cores', '?')}"
        if one.hardware.get("gpu", "none") != "none":
            hardware += f", {one.hardware['gpu']}"
        for index, (label, figure) in enumerate(one.figures.items()):
            about = (hardware, one.commit, one.date[:10]) if index == 0 else ("", "", "")
            table.add_row(name if index == 0 else "", label, _value(figure), _goal(figure), _mark(figure), *about)
        table.add_section()
    return table


def _value(figure: Figure) -> str:
    spread = "" if figure.spread is None else f" ± {figure.spread:.3g}"
    return f"{figure.value:.4g}{spread} {figure.unit}"


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"{'≥' if figure.better == 'higher' else '≤'} {figure.goal:.4g}"


def _mark(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return "[bold red]MISS[/]" if figure.missed else "ok"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(results)
