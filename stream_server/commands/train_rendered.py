"""`nerf-lipsync train rendered-sync`: the sync critic whose gradient reaches motion through rendered pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rendered_sync(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    corpus: Annotated[Path, typer.Option(help="corpus made by `prepare voices`")],
    out: Annotated[Path, typer.Option(help="folder for the weights")],
    avatar: Annotated[Path | None, typer.Option(help="avatar folder whose pictures it sees; the shipped one")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML; the `lite` preset if not given")] = None,
    runs: Annotated[Path, typer.Option(help="folder for curve and resumable state")] = Path("runs/rendered_sync"),
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 1,
) -> None:
    """Train the sync critic on rendered mouths, for the last phase of motion training; an interrupted run resumes."""
    import torch

    from model.config import load_toml
    from model.training.rendered_critic import FILE_NAME
    from model.training.rendered_sync import RenderedSyncConfig, train_rendered_sync

    torch.set_num_threads(threads)
    settings = load_toml(RenderedSyncConfig, config) if config else RenderedSyncConfig()
    typer.echo(train_rendered_sync(grid, corpus, out / FILE_NAME, settings, runs, avatar=avatar))


def register(group: typer.Typer) -> None:
    """Add the command to the `train` group."""
    group.command("rendered-sync")(rendered_sync)
