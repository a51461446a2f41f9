"""`nerf-lipsync bench latency`, `load` and `whep`: measurements that call a running server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from model.results import Figure
    from stream_server.bench.latency import CallMeasures
    from stream_server.bench.load import LoadRun

Url = Annotated[str | None, typer.Option(help="server to call; a `serve --timecode` of our own if not given")]
Token = Annotated[str | None, typer.Option(envvar="NERF_LIPSYNC_TOKEN", help="the server's token")]
Audio = Annotated[Path | None, typer.Option(help="speech to send, any sound file; synthetic speech if not given")]
Json = Annotated[Path | None, typer.Option(help="results file to write")]
Steps = Annotated[int, typer.Option(help="our own server: sampler steps per hop")]
Pipeline = Annotated[str | None, typer.Option(hidden=True, help="tests only: module:class of a stand-in")]
OWN_SIZE = 128
OwnSize = Annotated[int | None, typer.Option(help=f"our own server: picture size; {OWN_SIZE} if not given")]
_SHORT_HOLD_S = 1.0
SHARED = "other programs ran on the machine; caller and server share it"


def latency(
    url: Url = None,
    token: Token = None,
    audio: Audio = None,
    seconds: Annotated[float, typer.Option(min=3, help="length of the measurement after 3 s of settling")] = 60.0,
    size: Annotated[list[int] | None, typer.Option(help="our own server: picture size; give it more than once")] = None,
    steps: Steps = 2,
    low_latency: Annotated[bool, typer.Option("--low-latency", help="our own server: short hops")] = False,
    json: Json = None,
    pipeline: Pipeline = None,
) -> None:
    """Call the server, speak, and measure microphone to mouth, sound against picture, freezes and bytes."""
    from stream_server.bench.latency_report import call_details, call_figures

    only_of_our_own(url, {"--size": size, "--low-latency": low_latency or None})
    voice = voice_of(audio)
    figures: dict[str, Figure] = {}
    details: dict[str, JsonValue] = {}
    sizes = [None] if url is not None else list(size or [256])
    for one in sizes:
        options = ("--steps", str(steps), *(["--low-latency"] if low_latency else []))
        with own_server(url, one, *options, pipeline=pipeline) as (at, _):
            measured = asyncio.run(_one_call(at, token, voice, seconds))
        prefix = "" if len(sizes) == 1 else f"size_{one}."
        figures |= call_figures(measured, prefix, low_latency=low_latency)
        details[prefix or "call"] = call_details(measured)
    show(figures)
    command = f"nerf-lipsync bench latency --seconds {seconds:g}"
    command += "".join(f" --size {one}" for one in sizes if one is not None) + ("" if url else f" --steps {steps}")
    command += " --low-latency" if low_latency else ""
    write(json, figures, command, f"{voice_name(audio)}, one caller (aiortc); {SHARED}", details)


def load(
    url: Url = None,
    token: Token = None,
    audio: Audio = None,
    size: OwnSize = None,
    steps: Steps = 1,
    max_sessions: Annotated[int, typer.Option(min=1, help="most callers; our own server has as many places")] = 16,
    hold: Annotated[float, typer.Option(min=1, help="seconds measured at each number of callers")] = 10.0,
    limit: Annotated[float, typer.Option(min=40, help="most ms for the 95th percentile of frame intervals")] = 50.0,
    json: Json = None,
    pipeline: Pipeline = None,
) -> None:
    """Add callers one by one until one is refused or served late (95th percentile of its frame intervals)."""
    from stream_server.bench.load_report import load_details, load_figures

    only_of_our_own(url, {"--size": size})
    size = size or OWN_SIZE

    def measure(places: int, hold_s: float, limit_ms: float) -> LoadRun:
        options = ("--steps", str(steps), "--max-sessions", str(places))
        with own_server(url, size, *options, pipeline=pipeline) as (at, pid):
            return asyncio.run(_add_callers(at, pid, voice_of(audio), places + 1, hold_s, limit_ms, token))

    run = measure(max_sessions, hold, limit)
    if url is None and run.refused is None and run.capacity:  # late before it was full: how does a full one refuse?
        full = measure(run.capacity, _SHORT_HOLD_S, float("inf"))
        run = dataclasses.replace(run, refused=full.refused, retry_after_s=full.retry_after_s)
    figures = load_figures(run)
    show(figures)
    command = f"nerf-lipsync bench load --max-sessions {max_sessions} --hold {hold:g} --limit {limit:g}"
    command += "" if url else f" --size {size} --steps {steps}"
    data = f"{voice_name(audio)}; each caller a process (aiortc) on the server's machine; {SHARED}"
    write(json, figures, command, data, load_details(run))


async def _add_callers(
    url: str,
    pid: int | None,
    voice: NDArray[np.int16],
    most: int,
    hold_s: float,
    limit_ms: float,
    token: str | None,
) -> LoadRun:
    from stream_server.bench.load import measure_load
    from stream_server.bench.voice import write_voice

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "voice.wav")
        write_voice(file, voice)
        return await measure_load(url, file, most=most, hold_s=hold_s, limit_ms=limit_ms, token=token, server_pid=pid)


def whep(
    url: Annotated[str, typer.Argument(help="the WHEP endpoint")],
    token: Annotated[str | None, typer.Option(help="bearer token")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="how long after the first frame")] = 20.0,
    json: Json = None,
) -> None:
    """Watch any WHEP server: first frame, intervals, size, bytes."""
    from stream_server.bench.load_report import whep_figures
    from stream_server.bench.whep import watch

    measured = asyncio.run(watch(url, seconds, token=token))
    figures = whep_figures(measured)
    show(figures)
    data = "one viewer (aiortc); intervals are between last packets of frames"
    details: JsonValue = {"width": measured.width, "height": measured.height}
    write(json, figures, f"nerf-lipsync bench whep URL --seconds {seconds:g}", data, details)


async def _one_call(url: str, token: str | None, voice: NDArray[np.int16], seconds: float) -> CallMeasures:
    from stream_server.bench.caller import Caller
    from stream_server.bench.latency import talk_and_measure
    from stream_server.bench.voice import Microphone

    async with Caller(url, Microphone(voice), token=token) as caller:
        return await talk_and_measure(caller, seconds)


def only_of_our_own(url: str | None, given: dict[str, object | None]) -> None:
    """Refuse options that a server at a given address would never hear of.

    Raises:
        BadParameter: One of them is given, and a URL.
    """
    named = [name for name, value in given.items() if value is not None]
    if url is not None and named:
        raise typer.BadParameter(f"{named[0]} is for a server of our own; the one at {url} has its own: leave it out")


def voice_of(audio: Path | None) -> NDArray[np.int16]:
    """Speech of a file, or synthetic."""
    from stream_server.bench.voice import made_voice, read_voice

    return made_voice() if audio is None else read_voice(audio)


def voice_name(audio: Path | None) -> str:
    """The same in words."""
    return "synthetic speech" if audio is None else f"speech from {audio.name}"


@contextlib.contextmanager
def own_server(
    url: str | None, size: int | None, *options: str, pipeline: str | None
) -> Iterator[tuple[str, int | None]]:
    """The URL given, or that of a server of our own and its process id.

    Raises:
        BenchError: Our own server does not start, or shows a smaller picture than it was asked for.
    """
    if url is not None:
        yield url, None
        return
    from stream_server.bench.errors import BenchError
    from stream_server.bench.own_server import OwnServer

    arguments = ([] if size is None else ["--size", str(size)]) + list(options)
    with OwnServer(*arguments, *(["--pipeline", pipeline] if pipeline else [])) as server:
        typer.echo(server.ready_line)
        if size is not None and server.size != size:
            raise BenchError(f"asked for {size} px, this machine serves {server.size}: try when it is less busy")
        yield server.url, server.pid


def show(figures: dict[str, Figure]) -> None:
    """Print them, misses marked."""
    for name, figure in figures.items():
        missed = "  MISSED" if figure.missed else ""
        typer.echo(f"{name:48s} {figure.value:10.2f} {figure.unit}{missed}")


def write(json: Path | None, figures: dict[str, Figure], command: str, data: str, details: JsonValue) -> None:
    """Write a results file, if one is wanted."""
    from model.results import new_results, write_results

    if json is not None:
        write_results(json, new_results(figures, command=command, data=data, details=details))


def register(app: typer.Typer) -> None:
    """Add the commands to the group `bench`."""
    for command in (latency, load, whep):
        app.command()(command)
