"""`nerf-lipsync avatars`: the avatars that are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_server.avatar_folders import SHIPPED_FOLDER, find_avatars


def avatars(
    folder: Annotated[Path, typer.Argument(help="folder of avatar folders")] = SHIPPED_FOLDER,
) -> None:
    """List the installed avatars, with licence and consent."""
    from rich.console import Console
    from rich.table import Table

    found = find_avatars(folder)
    console = Console(width=None if Console().is_terminal else 160)
    if not found:
        console.print(f"no avatars in {folder}", highlight=False)
        return
    table = Table("name", "licence", "consent", "remarks")
    for name, about in found.items():
        consent = about.get("consent")
        licence = about.get("licence", about.get("license", "not stated"))
        table.add_row(name, str(licence), _consent(consent), str(about.get("error", "")))
    console.print(table)


def _consent(consent: object) -> str:
    if isinstance(consent, dict):
        return ", ".join(f"{key}: {value}" for key, value in consent.items())
    return str(consent) if consent else "[bold red]none: the server will refuse it[/]"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(avatars)
