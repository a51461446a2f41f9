"""`nerf-lipsync evaluate report`: results files to one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    json: Annotated[list[Path], typer.Option(help="results file; give it again for each further one")],
    out: Annotated[Path, typer.Option(help="folder for report.html and copies of results and videos")],
    title: Annotated[str | None, typer.Option(help="heading, instead of the results' own")] = None,
) -> None:
    """One HTML page of measured results: tables, goals, plots, side-by-side videos, definitions. Measures nothing."""
    from model.evaluation.report import write_evaluation_report

    typer.echo(str(write_evaluation_report(out, json, title=title)))


def register(parent: typer.Typer) -> None:
    """Add the command to the group."""
    parent.command()(report)
