"""`nerf-lipsync bench virtual-day`: what only long runs show."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Annotated

import typer

from stream_server.commands.bench_calls import Json, show, write


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
    app.command("virtual-day")(virtual_day)
