"""`nerf-lipsync train decoder2d`: the ablation without a radiance field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_server.commands.train_avatar import Capture, Ict, capture_folder, ict_file


def decoder2d(
    out: Annotated[Path, typer.Option(help="weights to write (.safetensors)")],
    capture: Capture = None,
    ict: Ict = None,
    steps: Annotated[int, typer.Option(min=1, help="training steps of eight frames")] = 1500,
    runs: Annotated[Path, typer.Option(help="folder for curve, resumable state and cached pictures")] = Path(
        "runs/decoder2d"
    ),
    hold_out: Annotated[int, typer.Option(min=0, help="last training frames not trained on")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="of frames and weights")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 1,
) -> None:
    """Train a 2-D convolutional decoder of heads, which an evaluation holds against the field; it is never served."""
    import dataclasses

    import torch

    from model.training.decoder2d import Decoder2dTraining, train_decoder

    def say(step: int, psnr: float) -> None:
        typer.echo(f"step {step}: {psnr:.2f} dB", err=True)

    torch.set_num_threads(threads)
    config = Decoder2dTraining()
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, steps=steps, seed=seed))
    train_decoder(config, capture_folder(capture), ict_file(ict), out, runs, hold_out=hold_out, report=say)
    typer.echo(str(out))


def register(app: typer.Typer) -> None:
    """Add the command to the `train` group."""
    app.command()(decoder2d)
