"""`nerf-lipsync train`: one subcommand each, importing what it needs when it runs."""

from __future__ import annotations

import typer

from stream_server.commands import (
    train_all,
    train_avatar,
    train_decoder2d,
    train_diffusion,
    train_motion,
    train_rendered,
    train_sync,
    train_upscale,
    train_views,
)

app = typer.Typer(no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train one stage, or the whole set; interrupted runs resume."""


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    train_all.register(app)
    train_motion.register(app)
    train_diffusion.register(app)
    train_views.register(app)
    train_sync.register(app)
    train_rendered.register(app)
    train_avatar.register_train(app)
    train_decoder2d.register(app)
    train_upscale.register(app)
    parent.add_typer(app, name="train")
