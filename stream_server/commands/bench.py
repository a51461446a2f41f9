"""`nerf-lipsync bench`: one subcommand each, importing what it needs when it runs."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure speed; results are JSON files."""


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    parent.add_typer(app, name="bench")
