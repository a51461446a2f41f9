"""`nerf-lipsync train upscale`: the network that makes 512 px of 256."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def upscale(
    out: Annotated[Path, typer.Option(help="weights to write (.safetensors)")],
    avatar: Annotated[Path | None, typer.Option(help="avatar to learn from; the shipped one if not given")] = None,
    steps: Annotated[int, typer.Option(min=1, help="training steps")] = 4000,
    frames: Annotated[int, typer.Option(min=1, help="renderings to learn from")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="of frames and weights")] = 0,
) -> None:
    """Train the enlargement of heads to 512 px on an avatar's own renderings; minutes on one core."""
    import torch

    from model.training.upscale import UpscaleTraining, train_upscale

    def say(step: int, error: float) -> None:
        typer.echo(f"step {step}: {-10 * math.log10(error + 1e-12):.2f} dB", err=True)

    torch.set_num_threads(1)
    config = UpscaleTraining(steps=steps, frames=frames, seed=seed)
    error = train_upscale(config, out, avatar=avatar, report=say)
    typer.echo(f"{out}: {-10 * math.log10(error + 1e-12):.2f} dB on the last patches")


def register(app: typer.Typer) -> None:
    """Add the command to the `train` group."""
    app.command()(upscale)
