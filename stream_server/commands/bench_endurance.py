"""`nerf-lipsync bench soak` and `virtual-day`: what only long runs show."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated

import typer

from stream_server.commands.bench_calls import (
    SHARED,
    Audio,
    Json,
    Pipeline,
    Steps,
    own_server,
    show,
    voice_name,
    voice_of,
    write,
)


def soak(
    minutes: Annotated[float, typer.Option(min=2.5, help="length; Ctrl-C ends it early and judges what there is")] = 30,
    sessions: Annotated[int, typer.Option(min=1, help="calls at the same time")] = 2,
    loss: Annotated[float, typer.Option(min=0, max=0.5, help="share of packets lost, both ways")] = 0.01,
    size: Annotated[int, typer.Option(help="picture size")] = 128,
    steps: Steps = 1,
    audio: Audio = None,
    json: Json = None,
    pipeline: Pipeline = None,
) -> None:
    """Hold calls over a lossy network: memory, descriptors and threads of every process, drift minute by minute."""
    from stream_server.bench.soak import run_soak
    from stream_server.bench.soak_report import soak_details, soak_figures

    options = ("--steps", str(steps), "--max-sessions", str(sessions))
    with own_server(None, size, *options, pipeline=pipeline) as (url, pid):
        assert pid is not None
        voice = voice_of(audio)
        run = asyncio.run(run_soak(url, pid, voice, minutes=minutes, sessions=sessions, loss=loss, tell=typer.echo))
    figures = soak_figures(run)
    show(figures)
    command = f"nerf-lipsync bench soak --minutes {minutes:g} --sessions {sessions} --loss {loss:g}"
    command += f" --size {size} --steps {steps}"
    data = f"{voice_name(audio)}, callers in one process (aiortc); {SHARED}"
    write(json, figures, command, data, soak_details(run))


def virtual_day(
    hours: Annotated[float, typer.Option(min=0.17, help="virtual hours; one takes ten seconds or more")] = 24.0,
    skew: Annotated[list[float] | None, typer.Option(help="the sender's clock is off by so many ppm")] = None,
    json: Json = None,
) -> None:
    """A day of packets in virtual time through clock, buffers and queues: nothing grows, nothing drifts."""
    from stream_server.bench.virtual_day import run_day
    from stream_server.bench.virtual_day_report import day_details, day_figures

    skews = list(skew or [100.0, -100.0])
    with ProcessPoolExecutor(len(skews)) as pool:
        running = [pool.submit(run_day, hours, skew_ppm=one) for one in skews]
        days = [one.result() for one in running]
    figures = day_figures(days)
    show(figures)
    command = f"nerf-lipsync bench virtual-day --hours {hours:g}" + "".join(f" --skew {one:g}" for one in skews)
    data = "packets with loss, gaps, backlogs, pauses, jitter, doubles and stalls of the model every ten minutes"
    write(json, figures, command, data, day_details(days))


def register(app: typer.Typer) -> None:
    """Add the commands to the group `bench`."""
    app.command()(soak)
    app.command("virtual-day")(virtual_day)
