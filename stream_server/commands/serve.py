"""`nerf-lipsync serve`: front, media worker and engine, until interrupted."""

from __future__ import annotations

from typing import Annotated

import typer

from stream_server.commands.encoder import Models, Whisper, whisper_path
from stream_server.config import ServerConfig


def serve(
    host: Annotated[str, typer.Option(help="address to listen on; beyond loopback it needs --token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 picks a free one")] = 8080,
    avatar: Annotated[str | None, typer.Option(help="name or folder; the shipped one if not given")] = None,
    models: Models = None,
    whisper: Whisper = None,
    size: Annotated[int, typer.Option(help="largest picture size in pixels: 128, 192 or 256")] = 256,
    steps: Annotated[int, typer.Option(help="sampler steps per hop")] = 2,
    threads: Annotated[int, typer.Option(help="threads of the renderer")] = 1,
    temperature: Annotated[float, typer.Option(help="0: the mean motion; 1: a sample")] = 0.0,
    timecode: Annotated[bool, typer.Option("--timecode", help="draw each frame's media position")] = False,
    token: Annotated[str | None, typer.Option(envvar="NERF_LIPSYNC_TOKEN", help="needed beyond loopback")] = None,
    max_sessions: Annotated[int, typer.Option(help="places")] = 1,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "WARNING",
    pipeline: Annotated[str | None, typer.Option(hidden=True, help="tests only: module:class of a stand-in")] = None,
) -> None:
    """Start the server; prints `ready URL` when it takes sessions. Open the URL, press Start and speak."""
    encoder = whisper_path(whisper)
    config = ServerConfig(
        host=host,
        port=port,
        avatar=avatar,
        models=None if models is None else str(models),
        whisper=None if encoder is None else str(encoder),
        size=size,
        steps=steps,
        threads=threads,
        temperature=temperature,
        timecode=timecode,
        token=token,
        max_sessions=max_sessions,
        log_level=log_level.upper(),
        pipeline=pipeline,
    )
    from stream_server.serve import run_server

    raise typer.Exit(run_server(config))


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(serve)
