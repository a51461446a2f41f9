"""`nerf-lipsync doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fail": "[bold red]FAIL[/]"}


def doctor(
    measure: Annotated[bool, typer.Option(help="run the default avatar for a moment and report its rate")] = True,
    data: Annotated[Path | None, typer.Option(envvar="NERF_LIPSYNC_DATA", help="folder of recorded data")] = None,
) -> None:
    """Report what is installed and what this machine can do; exits with 1 only if serving cannot work."""
    import os

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from model.face.model_files import default_cache
    from stream_server.doctor import can_serve, diagnose

    findings = diagnose(data_folder=data, measure=measure, model_cache=default_cache(os.environ, Path.home()))
    table = Table("check", "", "found", "what to do")
    for finding in findings:
        table.add_row(finding.name, MARKS[finding.state], escape(finding.found), escape(finding.remedy))
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    serves = can_serve(findings)
    console.print("this machine can serve" if serves else "serving cannot work until each FAIL is mended")
    if not serves:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)
