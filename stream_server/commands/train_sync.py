"""`nerf-lipsync train sync`: the AV-sync critic that evaluation judges motion with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sync(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")],
    corpus: Annotated[Path, typer.Option(help="corpus made by `prepare voices`")],
    out: Annotated[Path, typer.Option(help="folder for the weights")],
    config: Annotated[Path | None, typer.Option(help="TOML; the `lite` preset if not given")] = None,
    runs: Annotated[Path, typer.Option(help="folder for curve and resumable state")] = Path("runs/sync"),
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 1,
) -> None:
    """Train the AV-sync critic that `evaluate sync` judges with; an interrupted run resumes."""
    import torch

    from model.config import load_toml
    from model.motion.sync_critic import ASSET
    from model.training.sync_critic import CriticTrainConfig, train_sync_critic

    torch.set_num_threads(threads)
    settings = load_toml(CriticTrainConfig, config) if config else CriticTrainConfig()
    typer.echo(train_sync_critic(grid, corpus, out / ASSET.name, settings, runs))


def register(group: typer.Typer) -> None:
    """Add the command to the `train` group."""
    group.command("sync")(sync)
